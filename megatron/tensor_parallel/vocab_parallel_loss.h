// What the vocab-parallel losses share: the checks of labels, and the statistics of the whole
// vocabulary from those of each rank's columns.
#pragma once

#include "megatron/ops/loss/cross_entropy.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// Throws Error unless `targets` is int64 of this shape with ids within [0, vocab_size).
void check_labels(const at::Tensor& targets, at::IntArrayRef shape, int64_t vocab_size);

// The columns that this rank holds of a vocabulary split evenly. Throws Error unless the group's
// columns hold `vocab_size` ids.
VocabularyBlock vocabulary_block(int64_t columns, int64_t vocab_size, const ProcessGroup& tp);

// In place: local statistics become those of the whole vocabulary. The row maxima take one
// all-reduce; the sums one each, or one for all where they are `packed`. The bits are the same.
void reduce_statistics(CrossEntropyStatistics& statistics, const ProcessGroup& tp, bool packed);

}  // namespace megatron
