#include "megatron/base/error.h"

#include <new>

#include <c10/util/Exception.h>

namespace megatron {

std::string error_message(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  text = text.substr(0, text.find('\n'));
  // libtorch: "[enforce fail at alloc_cpu.cpp:129] err == 0. DefaultCPUAllocator: can't allocate
  // memory: you tried to allocate N bytes. Error code 12 (...)".
  if (text.find("DefaultCPUAllocator") != std::string::npos) {
    constexpr std::string_view mark = "tried to allocate ";
    const size_t at = text.find(mark);
    const std::string bytes =
        at == std::string::npos
            ? ""
            : text.substr(at + mark.size(), text.find('.', at) - at - mark.size());
    return fmt::format(
        "Expected to allocate a tensor{}, but got no memory from the system; a smaller "
        "--micro-batch-size, a smaller model or more model-parallel ranks need less",
        bytes.empty() ? "" : " of " + bytes);
  }
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return "Expected to allocate memory, but got none from the system; a smaller "
           "--micro-batch-size, a smaller model or more model-parallel ranks need less";
  }
  return text;
}

}  // namespace megatron
