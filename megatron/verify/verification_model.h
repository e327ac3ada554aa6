// The model that verify-layout trains: that of the options, or a default one, perhaps scaled down.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "megatron/config/options/options.h"
#include "megatron/verify/layout_name.h"

namespace megatron {

// Fills in what the options leave open, for `given` names of options that were set:
// - without any option of the architecture, the default model: 4 layers, hidden size 64, 4 heads, 2
//   query groups, SwiGLU, RoPE;
// - else those sizes for the number of layers, the hidden size and the heads that are not given;
// - a vocabulary of 250 and sequences of 32 tokens where none is given.
// Replaces precision options with fp64 throughout, and raises Adam's epsilon to 1e-5, so that
// rounding noise moves no weights.
void complete_verification_model(Options& options, const std::set<std::string>& given);

// Scales a model down: at most 4 layers, 4 query groups of 4 heads, 16 features a head, and
// smaller widths, vocabulary and sequence in proportion. Sizes stay larger where one of the layouts
// fits the full model and would not fit otherwise. What the options turn on stays on.
void shrink_model(Options& options, const std::vector<NamedLayout>& layouts);

// Why the layout does not fit the model, in the words of validate(); empty where it does.
std::string misfit(const NamedLayout& layout, const Options& options);

// "4 layers, hidden 64, 4 heads, 2 query groups, gated silu MLP of 128, positions rope".
std::string describe_model(const Options& options);
// "vocabulary 250, sequence 32, dropout 0.1; 2 steps of 8 micro-batches of 2 rows, ...".
std::string describe_verification(const Options& options);

}  // namespace megatron
