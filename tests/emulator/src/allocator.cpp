// Torch's CPU allocator with a ledger: what is allocated while a guard is up is known to the byte.
#include <c10/core/CPUAllocator.h>

#include <cstring>

extern "C" {
void emulator_allocated(const void* data, size_t bytes);
void emulator_freed(const void* data);
void emulator_forget_allocations();
}

namespace {

bool recording = false;

class Ledger final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    c10::Allocator* usual = c10::GetDefaultCPUAllocator();
    if (!recording || bytes == 0) return usual->allocate(bytes);
    void* data = usual->raw_allocate(bytes);
    std::memset(data, 0xff, bytes);  // NaN: what no kernel writes shows
    emulator_allocated(data, bytes);
    return {data, data, &release, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  static void release(void* data) {
    emulator_freed(data);
    c10::GetDefaultCPUAllocator()->raw_deallocate(data);
  }
};

}  // namespace

extern "C" void emulator_record_allocations(int on) {
  static Ledger& ledger = *new Ledger;
  static const bool installed = [] {
    c10::SetCPUAllocator(&ledger, 255);
    return true;
  }();
  recording = installed && on != 0;
  if (!recording) emulator_forget_allocations();
}
