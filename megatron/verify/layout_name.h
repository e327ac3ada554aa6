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

// The data-parallel size is given by dpN. The default is 2 with words for data-parallel ranks
// (zero1, fsdp2, overlap, ...), else 1. Throws Error for an unknown word (listing the known ones
// and the nearest), a missing number, and two words for the same thing.
NamedLayout layout_from_name(std::string_view name);

// The layouts in texts of comma-separated names.
std::vector<NamedLayout> layouts_from_names(const std::vector<std::string>& texts);

// The name of the options' layout on `world_size` ranks.
std::string layout_name_of(const Options& options, int world_size);

// Sets the options' layout to one rank.
void clear_layout(Options& options);

// Replaces the options' layout. The model stays the same, except for words that select
// recomputation.
void apply_layout(const NamedLayout& layout, Options& options);

}  // namespace megatron
