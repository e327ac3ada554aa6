// `megatron options`: all options, as help text or as docs/options.md.
#include <iostream>

#include "megatron/config/megatron_lm/megatron_lm_flags.h"
#include "megatron/config/options/options_help.h"

#include "cli/command.h"

namespace megatron {

int run_options(const ParsedCommand& command) {
  if (command.options.option_list.megatron_lm_flags) {
    std::cout << megatron_lm_flags_markdown();
    return 0;
  }
  std::cout << (command.options.option_list.markdown ? options_markdown()
                                                     : all_options_help(terminal_width()));
  return 0;
}

}  // namespace megatron
