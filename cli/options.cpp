// `megatron options`: every option, as help text or as the page docs/options.md.
#include <iostream>

#include "megatron/config/options_help.h"

#include "cli/command.h"

namespace megatron {

int run_options(const ParsedCommand& command) {
  std::cout << (command.options.option_list.markdown ? options_markdown()
                                                     : all_options_help(terminal_width()));
  return 0;
}

}  // namespace megatron
