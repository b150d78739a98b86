# The CUDA library: fusionops_torch_cuda, from csrc/cuda/*.cu and csrc/torch/cuda/*.cpp.
#
# nvcc is called by rules of our own and not as a language of CMake's: that would keep its path in
# the cache, and of PyPI's nvcc in an isolated build it is another every time.

set(FUSIONOPS_CUDA "auto" CACHE STRING "Build the CUDA library: 1, 0, or auto")
set(FUSIONOPS_CUDA_ARCHS "" CACHE STRING "GPUs to build for, as \"80;90\"; empty: all of ours")
set(FUSIONOPS_DEFAULT_CUDA_ARCHS 80 90 100 120)

# Sets `found` to nvcc, or to nothing, and `searched` to words that say where it was looked for.
function(fusionops_find_nvcc found searched)
  set(places)
  if(NOT "$ENV{CUDA_HOME}" STREQUAL "")
    list(APPEND places "$ENV{CUDA_HOME}/bin/nvcc")
  endif()
  find_program(nvcc_on_path nvcc NO_CACHE NO_CMAKE_PATH NO_CMAKE_SYSTEM_PATH)
  if(nvcc_on_path)
    list(APPEND places "${nvcc_on_path}")
  endif()
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c
            "import importlib.util as u; s = u.find_spec('nvidia'); print(*(s.submodule_search_locations if s else []), sep=';')"
    OUTPUT_VARIABLE pypi OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  foreach(folder IN LISTS pypi)
    file(GLOB inside "${folder}/cu*/bin/nvcc" "${folder}/cuda_nvcc/bin/nvcc")
    list(APPEND places ${inside})
  endforeach()
  set(${searched}
      "CUDA_HOME ('$ENV{CUDA_HOME}'), PATH, and PyPI's nvidia-cuda-nvcc of ${Python_EXECUTABLE}"
      PARENT_SCOPE)
  set(${found} "" PARENT_SCOPE)
  foreach(place IN LISTS places)
    if(EXISTS "${place}")
      set(${found} "${place}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

# Sets `root` to the toolkit of `nvcc`, which may be a wrapper: it says so itself.
function(fusionops_toolkit_of nvcc root)
  file(WRITE "${CMAKE_BINARY_DIR}/empty.cu" "")
  execute_process(COMMAND "${nvcc}" --dryrun -c "${CMAKE_BINARY_DIR}/empty.cu"
                  OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(NOT said MATCHES "TOP=([^\n]*)")
    message(FATAL_ERROR "${nvcc} --dryrun does not say where its toolkit is:\n${said}")
  endif()
  get_filename_component(top "${CMAKE_MATCH_1}" ABSOLUTE BASE_DIR "${CMAKE_BINARY_DIR}")
  set(${root} "${top}" PARENT_SCOPE)
endfunction()

# Sets `wanted` to whether to build the library, and `nvcc` to what with.
function(fusionops_decide_cuda wanted nvcc)
  set(${wanted} FALSE PARENT_SCOPE)
  if(FUSIONOPS_CUDA STREQUAL "0")
    return()
  elseif(NOT FUSIONOPS_CUDA MATCHES "^(1|auto)$")
    message(FATAL_ERROR "FUSIONOPS_CUDA is '${FUSIONOPS_CUDA}', expected 1, 0 or auto")
  endif()
  if(FUSIONOPS_CUDA STREQUAL "auto")
    execute_process(
      COMMAND ${Python_EXECUTABLE} -c
              "import runpy; print(runpy.run_path('${TORCH_DIR}/version.py').get('cuda') or '')"
      OUTPUT_VARIABLE torch_cuda OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(torch_cuda STREQUAL "")
      message(STATUS "CUDA library: not built beside a torch without CUDA (FUSIONOPS_CUDA=1 does)")
      return()
    endif()
  endif()
  fusionops_find_nvcc(found searched)
  if(found STREQUAL "" AND FUSIONOPS_CUDA STREQUAL "1")
    message(FATAL_ERROR "FUSIONOPS_CUDA=1, but there is no nvcc in ${searched}: install a CUDA "
                        "toolkit of 13.0 or later, or pip install 'fusionops[cuda-build]'.")
  elseif(found STREQUAL "")
    message(STATUS "CUDA library: not built, as there is no nvcc in ${searched}")
    return()
  endif()
  set(${wanted} TRUE PARENT_SCOPE)
  set(${nvcc} "${found}" PARENT_SCOPE)
endfunction()

# Sets `flags` to what nvcc is to generate code for, and `names` to what the library calls that.
function(fusionops_cuda_targets flags names)
  string(REGEX REPLACE "[ ,]+" ";" archs "${FUSIONOPS_CUDA_ARCHS}")
  if(archs STREQUAL "")
    set(archs ${FUSIONOPS_DEFAULT_CUDA_ARCHS})
  endif()
  set(options)
  foreach(arch IN LISTS archs)
    if(NOT arch MATCHES "^[0-9]+$" OR arch LESS 80)
      message(FATAL_ERROR "FUSIONOPS_CUDA_ARCHS names '${arch}', expected numbers from 80 on, as "
                          "\"80;90\"")
    endif()
    list(APPEND options "-gencode=arch=compute_${arch},code=sm_${arch}")
  endforeach()
  list(SORT archs COMPARE NATURAL)
  list(GET archs -1 highest)
  list(APPEND options "-gencode=arch=compute_${highest},code=compute_${highest}")
  set(${flags} "${options}" PARENT_SCOPE)
  set(${names} "${archs};${highest}-virtual" PARENT_SCOPE)
endfunction()

# Sets `object` to what `source` is compiled to.
function(fusionops_compile_cuda nvcc targets source object)
  get_filename_component(name "${source}" NAME_WE)
  set(output "${CMAKE_BINARY_DIR}/cuda/${name}.o")
  # Host code is compiled as the rest is, by the same compiler; it is nvcc's own code that does not
  # use parameters. Compressed for size, the library is a fifth as large.
  add_custom_command(
    OUTPUT "${output}"
    COMMAND "${nvcc}" -std=c++20 -O3 -lineinfo -compress-mode=size ${targets}
            "-ccbin=${CMAKE_CXX_COMPILER}"
            "-I${CMAKE_SOURCE_DIR}/csrc"
            -Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wno-unused-parameter,-Wno-psabi
            --expt-relaxed-constexpr -diag-suppress=177 -MD -MT "${output}" -MF "${output}.d"
            -c "${source}" -o "${output}"
    DEPENDS "${source}"
    DEPFILE "${output}.d"
    COMMENT "Building CUDA object cuda/${name}.o"
    VERBATIM)
  set(${object} "${output}" PARENT_SCOPE)
endfunction()

function(fusionops_add_cuda nvcc)
  fusionops_toolkit_of("${nvcc}" toolkit)
  find_library(cudart cudart_static PATHS "${toolkit}/lib64" "${toolkit}/lib" REQUIRED NO_CACHE
               NO_DEFAULT_PATH)
  fusionops_cuda_targets(targets names)
  message(STATUS "CUDA library: by ${nvcc}, for ${names}")
  # Globbed, as the emulator's tests build the same files from another place.
  file(GLOB kernels CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/csrc/cuda/*.cu")
  file(GLOB faces CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/csrc/torch/cuda/*.cpp")
  file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/cuda")
  set(objects)
  foreach(kernel IN LISTS kernels)
    fusionops_compile_cuda("${nvcc}" "${targets}" "${kernel}" object)
    list(APPEND objects "${object}")
  endforeach()
  add_library(fusionops_torch_cuda SHARED ${faces} ${objects})
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  target_include_directories(fusionops_torch_cuda SYSTEM PRIVATE "${toolkit}/include")
  target_compile_definitions(fusionops_torch_cuda PRIVATE FUSIONOPS_CUDA_FACE) # torch/unpack.h
  string(REPLACE ";" "\\;" escaped "${names}") # or CMake makes it several definitions
  set_source_files_properties("${CMAKE_SOURCE_DIR}/csrc/torch/cuda/architectures.cpp" PROPERTIES
                              COMPILE_DEFINITIONS "FUSIONOPS_CUDA_ARCHITECTURES=\"${escaped}\"")
  # The run-time of CUDA is inside, so that the library loads where neither it nor a driver is, and
  # out of sight, so that a process may have another one.
  target_link_libraries(fusionops_torch_cuda PRIVATE "${cudart}" Threads::Threads ${CMAKE_DL_LIBS} rt)
  target_link_options(fusionops_torch_cuda PRIVATE -Wl,--exclude-libs,ALL)
  fusionops_torch_face(fusionops_torch_cuda)
endfunction()
