// Options as JSON with Megatron's field names; differences between options; a hash.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "megatron/config/options/command.h"
#include "megatron/config/options/options.h"

namespace megatron {

inline constexpr CommandSet kAllCommands = ~CommandSet{0};

// A flat object with every field of the subcommands; null for optional fields that are not set.
nlohmann::json to_json(const Options& options, CommandSet taken_by = kAllCommands);

// Fields that the object lacks keep their defaults. Throws Error for an unknown field (with the
// nearest name) or a value of another type.
Options from_json(const nlohmann::json& json);

// Assigns a field by its name in Megatron's Python configuration; null means the default. Fields of
// Megatron with one possible value here (attention_softmax_in_fp32, ...) accept that value. Throws
// Error for an unknown field or an unsupported value.
void set_field(Options& options, std::string_view field, const nlohmann::json& value);

// Names and values of the subcommands' fields that differ from the default.
std::vector<std::pair<std::string, std::string>> differences_from_default(
    const Options& options, CommandSet taken_by = kAllCommands);

struct FieldDifference {
  std::string field;
  std::string left;
  std::string right;
};

struct ArchitectureDifference : FieldDifference {
  bool extends_context = false;  // accepted with --finetune
};
// Differences in the architecture: layers, sizes, positions, ...
std::vector<ArchitectureDifference> architecture_differences(const Options& left,
                                                             const Options& right);

// Differences that change training numerics: seed, precision, batch sizes, learning rate, ... The
// parallel layout is not compared.
std::vector<FieldDifference> training_differences(const Options& left, const Options& right);

// JSON text of all fields that options_hash covers.
std::string shared_options_text(const Options& options);

// Differences between two such texts. A field that one text lacks has the value "none".
std::vector<FieldDifference> shared_options_differences(std::string_view left,
                                                        std::string_view right);

// XXH64 of the fields that differ from the default and that ranks must agree on (RankAgreement).
// All ranks of a world must have the same hash.
uint64_t options_hash(const Options& options);

}  // namespace megatron
