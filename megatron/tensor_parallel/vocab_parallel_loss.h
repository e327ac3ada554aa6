// Shared by the vocab-parallel losses: the check of targets, this rank's columns of the vocabulary,
// and the reduction of statistics over ranks.
#pragma once

#include "megatron/ops/loss/cross_entropy.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// Throws Error unless `targets` is int64 with this shape and ids in [0, vocab_size).
void check_labels(const at::Tensor& targets, at::IntArrayRef shape, int64_t vocab_size);

// This rank's block of a vocabulary that is partitioned evenly into `columns` per rank. Throws
// Error if the group's columns are fewer than `vocab_size`.
VocabularyBlock vocabulary_block(int64_t columns, int64_t vocab_size, const ProcessGroup& tp);

// Reduces the statistics of each rank's columns, in place, to those of all columns: one all-reduce
// for the row maxima, and one for each sum, or for all sums together if `packed`. Both give the
// same bits.
void reduce_statistics(CrossEntropyStatistics& statistics, const ProcessGroup& tp, bool packed);

}  // namespace megatron
