// The functions of CUDA's own that device code calls: printf and assert.
#include <cstdio>
#include <cstring>
#include <string>

#include "emulator/ptx.h"

namespace emulator {
namespace {

template <class T>
T take(char*& arguments) {
  const auto address = (reinterpret_cast<uintptr_t>(arguments) + sizeof(T) - 1) / sizeof(T);
  arguments = reinterpret_cast<char*>(address * sizeof(T));
  const T value = read_as<T>(arguments);
  arguments += sizeof(T);
  return value;
}

// Prints one conversion, "%5.2f" say, with the next argument.
void print_one(std::string conversion, char*& arguments) {
  const char kind = conversion.back();
  if (std::strchr("feEgGa", kind) != nullptr) {
    std::printf(conversion.c_str(), take<double>(arguments));
  } else if (kind == 's' || kind == 'p') {
    std::printf(conversion.c_str(), take<char*>(arguments));
  } else if (conversion.find('l') != std::string::npos) {
    std::printf(conversion.c_str(), take<long long>(arguments));
  } else {
    std::printf(conversion.c_str(), take<int>(arguments));
  }
}

}  // namespace

void device_printf(char* format, char* arguments, char* result) {
  const char* text = read_as<char*>(format);
  char* next = read_as<char*>(arguments);
  for (const char* c = text; *c != 0; ++c) {
    if (*c != '%') {
      std::putchar(*c);
    } else if (c[1] == '%') {
      std::putchar(*++c);
    } else {
      const size_t length = std::strcspn(c, "diouxXcfeEgGasp");
      print_one(std::string(c, length + 1), next);
      c += length;
    }
  }
  if (result != nullptr) std::memset(result, 0, sizeof(int));
}

void device_assert(char* message, char* file, char* line, char* function, char*) {
  fail("assertion '%s' failed at %s:%d, in %s", read_as<char*>(message), read_as<char*>(file),
       read_as<int>(line), read_as<char*>(function));
}

}  // namespace emulator
