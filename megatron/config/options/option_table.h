// The one table of options. Flags, YAML keys, the JSON dump, --help and docs/options.md are made
// from it; the default is the field's initial value in its struct.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "megatron/config/options/command.h"
#include "megatron/config/options/option_value.h"
#include "megatron/config/options/options.h"

namespace megatron {

// How the values of an option on the ranks of one world must agree.
enum class RankAgreement {
  same,
  given,  // on all ranks or on none: each may have a path of its own
  none,   // addresses, threads, what one rank shows
};

// A field of the options, or a shorthand: a flag without a field of its own that sets others.
struct Option {
  std::string flag = "";  // Megatron-LM's name, without dashes; for a positional argument its name
  std::string help = "";
  std::string unit = "";   // of a number
  std::string field = "";  // Megatron's name in Python; the flag with underscores where not given
  std::string otherwise = "";  // what holds where the field is not given, or 0
  std::vector<std::string> flag_aliases = {};
  std::vector<std::string> field_aliases = {};
  std::vector<std::string> choices = {};  // of a text, where only these work
  bool inverted = false;                  // the flag sets the field to false
  bool positional = false;
  bool differs_between_runs = false;  // machine, paths, addresses: a resume may change them
  RankAgreement between_ranks = RankAgreement::same;
  bool architecture = false;  // decides what the weights are: fixed by a checkpoint
  CommandSet taken_by = 0;
  CommandSet required_by = 0;

  // Shorthands only: fields with the texts of their values, and what is derived after everything is
  // read (given the fields that were set).
  std::vector<std::pair<std::string, std::string>> sets = {};
  std::function<void(Options&, const std::set<std::string>&)> derive = {};

  // Filled by the group.
  std::string section = "";
  std::function<OptionValue(Options&)> value = {};

  bool is_shorthand() const { return !value; }
  // The field's name, for a shorthand that of its flag.
  const std::string& name() const { return field; }
  // "--num-layers", or "CASE" for a positional argument.
  std::string display() const;
};

class OptionTable {
 public:
  OptionTable();

  const std::vector<Option>& options() const { return options_; }

  // By flag (dashes in front allowed), or null.
  const Option* find_flag(std::string_view flag) const;
  // By field name, or null.
  const Option* find_field(std::string_view field) const;

  struct Key {
    const Option* option = nullptr;
    bool inverted = false;
  };
  // By a key of a file: a field's name or a flag without dashes in front, with - or _.
  Key find_key(std::string_view key) const;

  // "--lr" and so on: the flags that a subcommand takes.
  std::vector<std::string> flags_of(Command command) const;
  // The keys that a file for a subcommand may hold.
  std::vector<std::string> keys_of(Command command) const;
  std::vector<std::string> fields() const;

  // A section of the table whose fields are members of one struct of the options.
  template <typename Struct>
  class Group {
   public:
    template <typename Field>
    void add(Field Struct::*member, Option option) const {
      option.value = [locate = locate_, member](Options& options) {
        return option_value(locate(options).*member);
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

  // `defaults` gives the marks (architecture, differs_between_runs) of every option of the group.
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

// Subcommands that make a model of options, and those that run one wherever it comes from.
inline constexpr CommandSet kModelCommands =
    commands(Command::train, Command::bench, Command::plan);
inline constexpr CommandSet kRunCommands =
    commands(Command::train, Command::generate, Command::bench, Command::parity);
// Those that share a model out over ranks, whether they run it or not.
inline constexpr CommandSet kLayoutCommands = kRunCommands | commands(Command::plan);

// "a-b" -> "a_b".
std::string with_underscores(std::string_view name);

// The parts of the table, by theme; called by the constructor in this order.
void add_model_options(OptionTable& table);
void add_attention_options(OptionTable& table);
void add_position_options(OptionTable& table);
// YaRN's fields, which the model's positions and latent attention each have.
void add_yarn_options(OptionTable& table, const std::string& section,
                      YarnConfig& (*locate)(Options&), const std::string& prefix);
void add_layout_options(OptionTable& table);
void add_tensor_parallel_options(OptionTable& table);
void add_data_parallel_options(OptionTable& table);
void add_pipeline_options(OptionTable& table);
void add_optimizer_options(OptionTable& table);
void add_training_options(OptionTable& table);
void add_profile_options(OptionTable& table);
void add_tool_options(OptionTable& table);

}  // namespace megatron
