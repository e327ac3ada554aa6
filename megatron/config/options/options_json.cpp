#include "megatron/config/options/options_json.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "megatron/base/nearest_name.h"
#include "megatron/config/model/config_fields.h"
#include "megatron/config/model/fixed_fields.h"
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

// The table's accessors take a mutable reference because they are also used to assign.
FieldValue value_in(const Option& option, const Options& options) {
  return option.value(const_cast<Options&>(options));
}

const Options& default_options() {
  static const Options options;
  return options;
}

// Writes a pattern of layers as one entry per layer; as none if all layers are `usual`.
template <typename Holds>
void use_one_spelling(std::vector<int64_t>& pattern, int64_t num_layers, bool usual,
                      const Holds& holds) {
  constexpr int64_t kMostLayers = 1 << 16;
  const bool is_valid = pattern.size() == 1 || std::ssize(pattern) == num_layers;
  if (pattern.empty() || !is_valid || num_layers > kMostLayers) return;  // validation tells
  std::vector<int64_t> entries;
  for (int64_t layer = 1; layer <= num_layers; ++layer) entries.push_back(holds(layer) ? 1 : 0);
  if (std::ranges::count(entries, usual ? 1 : 0) == num_layers) entries.clear();
  pattern = std::move(entries);
}

// Sets optional fields to their defaults and patterns to one spelling, so that they compare equal to
// explicit values.
Options with_derived_fields(Options options) {
  GPTModelConfig& model = options.model;
  TransformerConfig& transformer = model.transformer;
  if (transformer.num_attention_heads > 0) {
    transformer.num_query_groups = transformer.query_groups();
    transformer.kv_channels = transformer.head_dim();
  }
  transformer.ffn_hidden_size = transformer.ffn_size();
  const TransformerConfig given = transformer;
  use_one_spelling(transformer.no_rope_freq, given.num_layers, /*usual=*/false,
                   [&](int64_t layer) { return !given.has_rope(layer); });
  if (!given.window_size.empty()) {
    use_one_spelling(transformer.window_attn_skip_freq, given.num_layers, /*usual=*/true,
                     [&](int64_t layer) { return given.has_window(layer); });
  }
  // Only learned positions have a weight of this size.
  const bool learned = model.position_embedding_type == PositionEmbeddingType::learned_absolute;
  model.max_position_embeddings = learned ? model.max_sequence_length() : 0;
  return options;
}

// RoPE and YaRN have the same weights; other kinds of positions do not.
bool changes_context_only(const Option& option, const Options& left, const Options& right) {
  if (option.name() != "position_embedding_type") return option.extends_context;
  const auto is_rotary = [](const Options& options) {
    return options.model.position_embedding_type == PositionEmbeddingType::rope ||
           options.model.position_embedding_type == PositionEmbeddingType::yarn;
  };
  return is_rotary(left) && is_rotary(right);
}

void set_value(Options& options, const Option& option, const nlohmann::json& value) {
  if (value.is_null()) {
    set_from_json(option.value(options), to_json(value_in(option, default_options())),
                  option.name());
    return;
  }
  // The default may be none of the choices: an empty string stands for a value that is not set.
  const bool is_default = value == to_json(value_in(option, default_options()));
  if (!option.choices.empty() && value.is_string() && !is_default &&
      std::find(option.choices.begin(), option.choices.end(), value.get<std::string>()) ==
          option.choices.end()) {
    fail("Expected one of {} for {}, but got '{}'", fmt::join(option.choices, ", "), option.name(),
         value.get<std::string>());
  }
  set_from_json(option.value(options), value, option.name());
}

// The fields that ranks must agree on. For paths: whether they are given.
nlohmann::json shared_options(const Options& options) {
  nlohmann::json json = nlohmann::json::object();
  for (const Option& option : option_table().options()) {
    if (option.is_shorthand() || option.between_ranks == RankAgreement::none) continue;
    const nlohmann::json value = to_json(value_in(option, options));
    const bool as_given = option.between_ranks == RankAgreement::given;
    json[option.name()] = !as_given ? value : value == "" ? "not given" : "given";
  }
  return json;
}

std::string to_text(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

nlohmann::json to_json(const Options& options, CommandSet taken_by) {
  nlohmann::json json = nlohmann::json::object();
  for (const Option& option : option_table().options()) {
    if (option.is_shorthand() || (option.taken_by & taken_by) == 0) continue;
    json[option.name()] = to_json(value_in(option, options));
  }
  return json;
}

Options from_json(const nlohmann::json& json) {
  check(json.is_object(), "Expected options as a JSON object, but got {}", json.type_name());
  Options options;
  for (const auto& [field, value] : json.items()) set_field(options, field, value);
  return options;
}

void set_field(Options& options, std::string_view field, const nlohmann::json& value) {
  if (const Option* option = option_table().find_field(field)) {
    return set_value(options, *option, value);
  }
  // Fields of the model without a flag, for C++ and parity cases.
  const ConfigFields model_fields = fields_of(options.model);
  if (const FieldValue* flagless = model_fields.find(field)) {
    if (!value.is_null()) set_from_json(*flagless, value, field);
    return;
  }
  if (find_fixed_field(field, value) != nullptr) return;
  fail("Expected a supported field, but got '{}'; the nearest is {}", field,
       nearest_name(field, option_table().fields()));
}

std::vector<std::pair<std::string, std::string>> differences_from_default(const Options& options,
                                                                          CommandSet taken_by) {
  std::vector<std::pair<std::string, std::string>> result;
  for (const Option& option : option_table().options()) {
    if (option.is_shorthand() || (option.taken_by & taken_by) == 0) continue;
    const FieldValue value = value_in(option, options);
    if (to_json(value) == to_json(value_in(option, default_options()))) continue;
    result.emplace_back(option.name(), to_text(value));
  }
  return result;
}

std::vector<ArchitectureDifference> architecture_differences(const Options& left,
                                                             const Options& right) {
  std::vector<ArchitectureDifference> result;
  const Options left_derived = with_derived_fields(left);
  const Options right_derived = with_derived_fields(right);
  for (const Option& option : option_table().options()) {
    if (option.is_shorthand() || !option.architecture) continue;
    const FieldValue a = value_in(option, left_derived);
    const FieldValue b = value_in(option, right_derived);
    if (to_json(a) == to_json(b)) continue;
    result.push_back(
        {{option.name(), to_text(a), to_text(b)}, changes_context_only(option, left, right)});
  }
  return result;
}

std::vector<FieldDifference> training_differences(const Options& left, const Options& right) {
  // These do not change the numerics. The checkpoint's fingerprint covers the layout, and the
  // tokenizer's fingerprint its files.
  static const std::set<std::string> irrelevant = {
      "eval_interval", "eval_iters", "exit_interval", "exit_duration_in_mins", "finetune",
      "no_load_optim", "check_for_nan_in_loss",
      // The identity of the data covers these.
      "data_path", "data_args_path", "train_data_path", "valid_data_path", "test_data_path",
      "per_split_data_args_path"};
  std::vector<FieldDifference> result;
  for (const Option& option : option_table().options()) {
    if (option.is_shorthand() || option.architecture || option.differs_between_runs ||
        !contains(option.taken_by, Command::train) || irrelevant.contains(option.name()) ||
        (option.section == "Parallelism" && option.name() != "cp_comm_type") ||
        option.section == "Tokenizer") {
      continue;
    }
    // By default the learning rate decays until the end of the run.
    const bool constant = right.optimizer.lr_decay_style == LrDecayStyle::constant;
    if (option.name() == "train_iters" &&
        (right.training.train_samples || right.optimizer.lr_decay_iters || constant)) {
      continue;
    }
    if (option.name() == "train_samples" && (right.optimizer.lr_decay_samples || constant))
      continue;
    const FieldValue a = value_in(option, left), b = value_in(option, right);
    if (to_json(a) != to_json(b)) result.push_back({option.name(), to_text(a), to_text(b)});
  }
  return result;
}

std::string shared_options_text(const Options& options) {
  return to_text(shared_options(options));
}

std::vector<FieldDifference> shared_options_differences(std::string_view left,
                                                        std::string_view right) {
  const nlohmann::json a = nlohmann::json::parse(left), b = nlohmann::json::parse(right);
  const auto text_in = [](const nlohmann::json& json, const std::string& field) {
    return json.contains(field) && !json.at(field).is_null() ? json.at(field).dump() : "none";
  };
  nlohmann::json fields = a;
  fields.update(b);
  std::vector<FieldDifference> result;
  for (const auto& [field, value] : fields.items()) {
    const std::string in_a = text_in(a, field), in_b = text_in(b, field);
    if (in_a == in_b) continue;
    const Option* option = option_table().find_field(field);
    result.push_back({option != nullptr ? option->display() : field, in_a, in_b});
  }
  return result;
}

uint64_t options_hash(const Options& options) {
  const nlohmann::json defaults = shared_options(default_options());
  const nlohmann::json shared = shared_options(options);
  nlohmann::json json = nlohmann::json::object();  // sorted by key
  for (const auto& [name, value] : shared.items()) {
    if (value != defaults.at(name)) json[name] = value;
  }
  const std::string text = to_text(json);
  return XXH64(text.data(), text.size(), /*seed=*/0);
}

}  // namespace megatron
