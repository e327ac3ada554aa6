#include "megatron/base/error.h"

#include <algorithm>
#include <limits>
#include <new>
#include <numeric>

#include <c10/util/Exception.h>

namespace megatron {
namespace {

// Levenshtein distance by the two-row recurrence.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace

std::string error_message(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  text = text.substr(0, text.find('\n'));
  // libtorch's allocator names its own source: "[enforce fail at alloc_cpu.cpp:129] err == 0.
  // DefaultCPUAllocator: can't allocate memory: you tried to allocate N bytes. Error code 12
  // (...)".
  if (text.find("DefaultCPUAllocator") != std::string::npos) {
    constexpr std::string_view mark = "tried to allocate ";
    const size_t at = text.find(mark);
    const std::string bytes =
        at == std::string::npos
            ? ""
            : text.substr(at + mark.size(), text.find('.', at) - at - mark.size());
    return fmt::format(
        "Expected memory for a tensor{}, but the system has none left; a smaller "
        "--micro-batch-size "
        "or model, or more ranks that share it, need less",
        bytes.empty() ? "" : " of " + bytes);
  }
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return "Expected memory, but the system has none left; a smaller --micro-batch-size or model, "
           "or "
           "more ranks that share it, need less";
  }
  return text;
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  std::string nearest;
  size_t least = std::numeric_limits<size_t>::max();
  for (const auto& candidate : candidates) {
    const size_t distance = edit_distance(name, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace megatron
