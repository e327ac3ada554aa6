// The model that verify-layout trains: from the options or by default, optionally scaled down.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "megatron/config/options/options.h"
#include "megatron/verify/layout_name.h"

namespace megatron {

// Completes the options; `given` holds the names of those that were set.
// - Without any architecture option: 4 layers, hidden size 64, 4 heads, 2 query groups, SwiGLU,
//   RoPE.
// - Otherwise the same defaults for the number of layers, the hidden size and the heads.
// - By default a vocabulary of 250 and sequences of 32 tokens.
// Replaces precision options with fp64 throughout, and raises Adam's epsilon to 1e-5, so that
// rounding noise moves no weights.
void complete_verification_model(Options& options, const std::set<std::string>& given);

// Scales the model down to at most 4 layers, 4 query groups of 4 heads, and head dimension 16, with
// widths, vocabulary and sequence length to match. Sizes stay larger if a layout that fits the full
// model needs it. All other options stay.
void shrink_model(Options& options, const std::vector<NamedLayout>& layouts);

// Why the layout does not fit the model: the error of validate(), or empty if it fits.
std::string misfit(const NamedLayout& layout, const Options& options);

// "4 layers, hidden 64, 4 heads, 2 query groups, gated silu MLP of 128, positions rope".
std::string describe_model(const Options& options);
// "vocabulary 250, sequence 32, dropout 0.1; 2 steps of 8 micro-batches of 2 rows, ...".
std::string describe_verification(const Options& options);

}  // namespace megatron
