#include "megatron/inference/stop_strings.h"

#include <algorithm>
#include <utility>

#include "megatron/base/error.h"

namespace megatron {

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_)
    check(!stop.empty(), "Expected stop strings of at least one byte, but got an empty one");
}

StopStrings::Fed StopStrings::feed(std::string_view bytes) {
  held_ += bytes;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    held_.resize(first);
    return {.text = flush(), .stopped = true};
  }
  size_t kept = 0;  // the longest end that begins a stop string
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > kept; --length) {
      if (held_.ends_with(std::string_view(stop).substr(0, length))) kept = length;
    }
  }
  Fed result{.text = held_.substr(0, held_.size() - kept)};
  held_.erase(0, held_.size() - kept);
  return result;
}

std::string StopStrings::flush() {
  return std::exchange(held_, std::string());
}

}  // namespace megatron
