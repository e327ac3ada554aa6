// The queues that a pipeline's messages stand in. Some transports (NCCL) go by order alone:
// whatever two ranks send each other in one group waits for what was started before it, on both
// sides and in both directions. A message that must not wait for others needs a link of its own.
#pragma once

#include <compare>
#include <vector>

namespace megatron {

// The messages of one tag from one rank of a group to another, by group rank.
struct MessageLink {
  int source = 0, destination = 0, tag = 0;
  auto operator<=>(const MessageLink&) const = default;
};

// Activations go to the next stage, gradients to the one before; virtual stages go on from the last
// stage to the first.
constexpr int kActivationTag = 1, kGradientTag = 2;

// What a pipeline of that many stages sends, a link for each direction and kind: with two stages
// both kinds go both ways. In an order in which all stages may make them. Empty for one stage.
std::vector<MessageLink> pipeline_links(int stages);

}  // namespace megatron
