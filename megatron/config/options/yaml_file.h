// Options from a YAML file.
#pragma once

#include <filesystem>

#include "megatron/config/options/assignments.h"

namespace megatron {

// Sets what the file holds. Keys are flags without the dashes in front or Megatron's field names,
// with - or _; they may be grouped in sections, which are named as those of --help
// ("learning_rate") and hold any options. A key with nothing behind it
// keeps the default. Throws UsageError that names file, line and key where a key is unknown (with
// the nearest), belongs to other subcommands, or has a value of another type.
void read_yaml_file(const std::filesystem::path& path, Command command, Assignments& assignments);

}  // namespace megatron
