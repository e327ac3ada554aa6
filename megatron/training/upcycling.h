// Upcycling of a dense checkpoint into a model with experts (Komatsuzaki et al., 2022; with
// granularity: He et al., 2024). With granularity G an expert has 1/G of the dense MLP's width: expert e
// has slice e mod G of it. The router's rows are equal for the G slices of one copy, so that a token is
// sent to all slices of the same copies, and the logits are those of the dense model at the start.
#pragma once

#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/config/options/options.h"

namespace megatron {

// Whether loading the checkpoint of a run with the options `stored` is upcycling: the model has
// experts and --moe-use-upcycling, and the stored one is dense.
bool is_upcycling(const Options& stored, const Options& options);

// The options without experts.
Options dense_options(Options options);

// Loads the values of `weights` from a dense checkpoint. The router's rows are initial weights.
void load_upcycled(CheckpointReader& checkpoint, const Options& options,
                   const ShardedStateDict& weights);

}  // namespace megatron
