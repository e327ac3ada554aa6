// The message queues of a pipeline. Some transports (NCCL) have one queue for each pair of ranks of
// a group: a message waits for all messages between them that started before it, in both
// directions. Messages that must not wait for each other go over different links.
#pragma once

#include <compare>
#include <vector>

namespace megatron {

// The messages of one tag from one rank of a group to another, by group rank.
struct MessageLink {
  int source = 0, destination = 0, tag = 0;
  auto operator<=>(const MessageLink&) const = default;
};

// Activations go to the next stage, gradients to the previous one. With virtual stages the last
// stage also sends activations to the first.
constexpr int kActivationTag = 1, kGradientTag = 2;

// The links of a pipeline: one for each pair of neighbours, direction and kind of message. Between
// two stages both kinds go both ways. All stages can create them in this order without deadlock.
// Empty for one stage.
std::vector<MessageLink> pipeline_links(int stages);

}  // namespace megatron
