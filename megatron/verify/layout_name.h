// Parallel layouts by name: words joined with +, such as tp2+sp+pp2+vp2 or cp2:a2a+zero1.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "megatron/config/options/options.h"

namespace megatron {

struct NamedLayout {
  std::string name;
  int world_size = 1;              // tensor x pipeline x context x data parallel
  std::vector<std::string> flags;  // the layout as flags of `megatron train`, without --nproc
};

// The data-parallel size is that of the word dpN; without it 2 where a word concerns data-parallel
// ranks (zero1, fsdp2, overlap, ...), else 1. Throws Error for an unknown word (with the known ones
// and the nearest), a missing number, and two words that set the same thing.
NamedLayout layout_from_name(std::string_view name);

// The names in texts that may hold several, with commas between.
std::vector<NamedLayout> layouts_from_names(const std::vector<std::string>& texts);

// The name of the layout in the options; `world_size` ranks, which the model's ranks divide.
std::string layout_name_of(const Options& options, int world_size);

// Replaces the layout in the options with one rank.
void clear_layout(Options& options);

// Replaces the layout in the options. Words that select recomputation leave the rest of the model
// as it is.
void apply_layout(const NamedLayout& layout, Options& options);

// The known words, a line each with what they mean: "  tpN    tensor parallel ...".
std::string layout_words_help();

}  // namespace megatron
