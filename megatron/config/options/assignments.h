// Assigns options from one source, the command line or a file, and refuses contradictions in it.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/config/options/accepted_flags.h"
#include "megatron/config/options/option_table.h"

namespace megatron {

class Assignments {
 public:
  // `given` collects the names of assigned fields and shorthands.
  Assignments(Options& options, std::set<std::string>& given) : options_(options), given_(given) {}

  // Assigns the option from its texts (one, unless it is a list). With `inverted`, true sets the
  // field to false. `subject` names the option in messages. Throws UsageError.
  void assign(const Option& option, bool inverted, const std::vector<std::string>& texts,
              const std::string& subject);

  // Notes a flag of Megatron-LM that has no effect here. Throws UsageError for a value for which
  // that is not so, and for two values.
  void accept(const MegatronLmFlag& flag, const std::string& value, const std::string& subject);
  const AcceptedFlags& accepted() const { return accepted_; }

 private:
  void assign_field(const Option& option, bool inverted, const std::vector<std::string>& texts,
                    const std::string& subject);
  void record(const Option& option, const std::string& subject);

  struct Setting {
    std::string subject;
    nlohmann::json value;
  };
  Options& options_;
  std::set<std::string>& given_;
  std::map<std::string, Setting> settings_;
  AcceptedFlags accepted_;
};

// Applies Option::derive of the given shorthands. Call once, after the last source.
void derive_from_shorthands(Options& options, const std::set<std::string>& given);

}  // namespace megatron
