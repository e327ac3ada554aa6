// The datasets that a run's options name: one blend that --split cuts, or a blend per split.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "megatron/config/model/training_config.h"
#include "megatron/data/blend.h"

namespace megatron {

struct DataSources {
  std::optional<DataBlend> all;                           // cut by --split
  std::array<std::optional<DataBlend>, 3> by_split = {};  // used whole, where `all` is empty

  // The blend of the training samples.
  const DataBlend& training() const { return all ? *all : *by_split[0]; }
  // The prefixes of all blends.
  std::vector<std::string> prefixes() const;
};

// From data_path, data_args_path, the paths per split, or per_split_data_args_path, whichever is
// given; empty for mock data. Throws Error for files that cannot be read or hold something else, and
// for invalid weights.
DataSources read_data_sources(const DataConfig& data);

// A prefix, or "0.75 PREFIX + 0.25 PREFIX", or "PREFIX + PREFIX".
std::string describe_blend(const DataBlend& blend);

}  // namespace megatron
