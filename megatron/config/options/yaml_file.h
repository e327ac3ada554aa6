// Options from a YAML file.
#pragma once

#include <filesystem>

#include "megatron/config/options/assignments.h"

namespace megatron {

// Assigns the options in the file. Keys are flags without leading dashes or Megatron's field names,
// with - or _. Sections named as in --help ("learning_rate") may group options; any section may
// hold any option. A key without a value keeps the default. Throws UsageError with file, line and
// key for an unknown key (with the nearest), a key of another subcommand or a value of another
// type. read_yaml_text does the same for the text of a file that messages call `name`.
void read_yaml_text(const std::string& text, const std::string& name, Command command,
                    Assignments& assignments);
void read_yaml_file(const std::filesystem::path& path, Command command, Assignments& assignments);

}  // namespace megatron
