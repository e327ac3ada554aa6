// Setting options by name from one source: the command line or a file. Keeps what was set, and
// refuses a source that contradicts itself.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/config/options/option_table.h"

namespace megatron {

class Assignments {
 public:
  // `given` collects the names of what was set; shared by all sources of one command.
  Assignments(Options& options, std::set<std::string>& given) : options_(options), given_(given) {}

  // Sets the option from its texts (one, unless it is a list). `inverted`: true turns the field
  // off. `subject` is how messages name it. Throws UsageError.
  void assign(const Option& option, bool inverted, const std::vector<std::string>& texts,
              const std::string& subject);

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
};

// What shorthands derive from everything that was read; to be called once, after the last source.
void derive_from_shorthands(Options& options, const std::set<std::string>& given);

}  // namespace megatron
