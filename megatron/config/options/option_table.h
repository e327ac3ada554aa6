// The option table, from which flags, YAML keys, JSON, --help and docs/options.md are generated. An
// option's default is the initial value of its field.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "megatron/config/model/field_value.h"
#include "megatron/config/options/command.h"
#include "megatron/config/options/options.h"

namespace megatron {

// How an option's values on the ranks of a world must agree.
enum class RankAgreement {
  same,
  given,  // given on all ranks or on none; paths may differ
  none,   // addresses, threads, logging
};

// A field of Options, or a shorthand: a flag without a field that assigns other fields.
struct Option {
  std::string flag = "";  // Megatron-LM's name without dashes, or a positional argument's name
  std::string help = "";
  std::string unit = "";       // of a number
  std::string field = "";      // Megatron's name in Python; default: the flag with underscores
  std::string otherwise = "";  // describes the default if the field is not set or 0
  std::vector<std::string> flag_aliases = {};
  std::vector<std::string> field_aliases = {};
  std::vector<std::string> choices = {};  // valid values of a string
  bool inverted = false;                  // the flag sets the field to false
  bool positional = false;
  bool differs_between_runs = false;  // may change on resume: paths, addresses, logging
  RankAgreement between_ranks = RankAgreement::same;
  bool architecture = false;     // must match the checkpoint that is loaded
  bool extends_context = false;  // of those, may change with --finetune: no weight depends on it
  CommandSet taken_by = 0;
  CommandSet required_by = 0;

  // Shorthands only: the assigned fields with the texts of their values, and a function that runs
  // after all sources are read (with the names of the assigned fields).
  std::vector<std::pair<std::string, std::string>> sets = {};
  std::function<void(Options&, const std::set<std::string>&)> derive = {};

  // Set by the group.
  std::string section = "";
  std::function<FieldValue(Options&)> value = {};

  bool is_shorthand() const { return !value; }
  // Name of the field; for a shorthand, of the flag.
  const std::string& name() const { return field; }
  // "--num-layers", or "CASE" for a positional argument.
  std::string display() const;
};

class OptionTable {
 public:
  OptionTable();

  const std::vector<Option>& options() const { return options_; }

  // By flag, with or without dashes; null if unknown.
  const Option* find_flag(std::string_view flag) const;
  // By field name; null if unknown.
  const Option* find_field(std::string_view field) const;

  struct Key {
    const Option* option = nullptr;
    bool inverted = false;
  };
  // By a key of a file: a field or a flag without leading dashes, with - or _.
  Key find_key(std::string_view key) const;

  // Flags of a subcommand, with dashes.
  std::vector<std::string> flags_of(Command command) const;
  // Valid keys in a file for a subcommand.
  std::vector<std::string> keys_of(Command command) const;
  std::vector<std::string> fields() const;

  // A section of the table; its fields are members of one struct of Options.
  template <typename Struct>
  class Group {
   public:
    template <typename Field>
    void add(Field Struct::*member, Option option) const {
      option.value = [locate = locate_, member](Options& options) {
        return field_value(locate(options).*member);
      };
      table_->append(std::move(option), section_, taken_by_, defaults_);
    }
    void shorthand(Option option) const {
      table_->append(std::move(option), section_, taken_by_, defaults_);
    }

   private:
    friend class OptionTable;
    OptionTable* table_ = nullptr;
    std::string section_;
    CommandSet taken_by_ = 0;
    Option defaults_;
    Struct& (*locate_)(Options&) = nullptr;
  };

  // `defaults` has the attributes of all options of the group (architecture, ...).
  template <typename Struct>
  Group<Struct> group(std::string section, CommandSet taken_by, Struct& (*locate)(Options&),
                      Option defaults = {}) {
    Group<Struct> result;
    result.table_ = this;
    result.section_ = std::move(section);
    result.taken_by_ = taken_by;
    result.defaults_ = std::move(defaults);
    result.locate_ = locate;
    return result;
  }

 private:
  void append(Option option, const std::string& section, CommandSet taken_by,
              const Option& defaults);

  std::vector<Option> options_;
};

const OptionTable& option_table();

// Subcommands that build a model from options, and subcommands that run a model.
inline constexpr CommandSet kModelCommands =
    commands(Command::train, Command::bench, Command::plan);
inline constexpr CommandSet kRunCommands =
    commands(Command::train, Command::generate, Command::evaluate, Command::bench, Command::parity);
// Subcommands that run the inference engine.
inline constexpr CommandSet kEngineCommands = commands(Command::generate, Command::evaluate);
// Subcommands with a parallel layout.
inline constexpr CommandSet kLayoutCommands = kRunCommands | commands(Command::plan);

// "a-b" -> "a_b".
std::string with_underscores(std::string_view name);

// Sections of the table, in the constructor's order.
void add_model_options(OptionTable& table);
void add_attention_options(OptionTable& table);
void add_position_options(OptionTable& table);
// YaRN's fields, once for the model's positions and once for MLA.
void add_yarn_options(OptionTable& table, const std::string& section,
                      YarnConfig& (*locate)(Options&), const std::string& prefix);
void add_layout_options(OptionTable& table);
void add_tensor_parallel_options(OptionTable& table);
void add_data_parallel_options(OptionTable& table);
void add_moe_options(OptionTable& table);
void add_pipeline_options(OptionTable& table);
void add_optimizer_options(OptionTable& table);
void add_training_options(OptionTable& table);
void add_profile_options(OptionTable& table);
void add_tool_options(OptionTable& table);

}  // namespace megatron
