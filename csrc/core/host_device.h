// What marks a function that host and device share.
#pragma once

#ifdef __CUDACC__
#define FUSIONOPS_HOST_DEVICE __host__ __device__
#else
#define FUSIONOPS_HOST_DEVICE
#endif
