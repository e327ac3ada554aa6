#include "megatron/parallel/pipeline_links.h"

namespace megatron {

std::vector<MessageLink> pipeline_links(int stages) {
  std::vector<MessageLink> links;
  if (stages == 1) return links;
  for (int stage = 0; stage < stages; ++stage) {
    const int next = (stage + 1) % stages;
    links.push_back({stage, next, kActivationTag});
    links.push_back({next, stage, kGradientTag});
  }
  return links;
}

}  // namespace megatron
