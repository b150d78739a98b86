// Torch's CPU allocator with a ledger: what is allocated while a guard is up is known to the byte.
#include <c10/core/CPUAllocator.h>

#include <cstring>

extern "C" {
void emu_allocated(const void* data, size_t bytes);
void emu_freed(const void* data);
void emu_forget_allocations();
}

namespace {

bool recording = false;

class Ledger final : public c10::Allocator {
 public:
  explicit Ledger(c10::Allocator* inner) : inner_(inner) {}

  c10::DataPtr allocate(size_t bytes) override {
    if (!recording || bytes == 0) return inner_->allocate(bytes);
    void* data = inner_->raw_allocate(bytes);
    std::memset(data, 0xff, bytes);  // NaN: what no kernel writes shows
    emu_allocated(data, bytes);
    return {data, data, &Ledger::release, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &Ledger::release; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  static void release(void* data) {
    emu_freed(data);
    c10::GetDefaultCPUAllocator()->raw_deallocate(data);
  }

  c10::Allocator* inner_;
};

}  // namespace

extern "C" void emu_record_allocations(int on) {
  static Ledger ledger(c10::GetDefaultCPUAllocator());
  static const bool installed = [] {
    c10::SetCPUAllocator(&ledger, 255);
    return true;
  }();
  recording = installed && on != 0;
  if (!recording) emu_forget_allocations();
}
