// Options as JSON by Megatron's field names, what differs from the defaults, and a hash.
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

// One flat object: every field that one of the subcommands takes; null where an optional one is not
// given.
nlohmann::json to_json(const Options& options, CommandSet taken_by = kAllCommands);

// The options that such an object holds; what it leaves out keeps its default. Throws Error for a
// field that is unknown (naming the nearest) or of another type.
Options from_json(const nlohmann::json& json);

// Sets one field by its name in Megatron's Python configuration; null means the default. Fields of
// Megatron's that have one possible value here (attention_softmax_in_fp32, ...) are accepted with
// that value. Throws Error that names the field where it is unknown or its value is not one that
// works here.
void set_field(Options& options, std::string_view field, const nlohmann::json& value);

// Field names and values, as text, of what a subcommand takes and is not at its default.
std::vector<std::pair<std::string, std::string>> differences_from_default(
    const Options& options, CommandSet taken_by = kAllCommands);

struct FieldDifference {
  std::string field;
  std::string left;
  std::string right;
};
// Where two sets of options disagree about what the weights are (layers, widths, positions, ...).
std::vector<FieldDifference> architecture_differences(const Options& left, const Options& right);

// Where two runs of one model disagree about what changes the numbers of training: seed, precision,
// batches, learning rate, ... The layout is not among it.
std::vector<FieldDifference> training_differences(const Options& left, const Options& right);

// All that goes into options_hash, at its default or not, as one flat object in a text.
std::string shared_options_text(const Options& options);

// Where two such texts disagree: flags and values. Texts of another build may have other fields,
// whose value is then "none".
std::vector<FieldDifference> shared_options_differences(std::string_view left,
                                                        std::string_view right);

// XXH64 of what is not at its default, as far as ranks must agree in it (RankAgreement): equal on
// every rank of a world, or the ranks do not run the same thing.
uint64_t options_hash(const Options& options);

}  // namespace megatron
