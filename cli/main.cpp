// The program `megatron`: parses the command line, runs the subcommand, and reports exceptions as
// the last line on standard error. The exit status is 1, or 2 for an invalid command line.
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <malloc.h>
#include <string>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vector>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>

#include "megatron/config/options/option_table.h"
#include "megatron/config/options/options_help.h"
#include "megatron/config/options/recipes.h"

#include "cli/command.h"

namespace megatron {

int terminal_width() {
  winsize size{};
  if (isatty(STDOUT_FILENO) != 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
      size.ws_col > 0) {
    return size.ws_col;
  }
  if (const char* columns = std::getenv("COLUMNS"); columns != nullptr) {
    const int width = std::atoi(columns);
    if (width > 0) return width;
  }
  return 100;
}

namespace {

RunCommand* find_runner(Command command) {
  const std::string name = with_underscores(command_name(command));
#define MEGATRON_SUBCOMMAND(subcommand) \
  if (name == #subcommand) return run_##subcommand;
#include "subcommands.inc"
#undef MEGATRON_SUBCOMMAND
  return nullptr;
}

bool asks_for(const std::vector<std::string>& arguments, std::string_view long_name,
              std::string_view short_name) {
  for (const auto& argument : arguments) {
    if (argument == long_name || argument == short_name) return true;
  }
  return false;
}

int run(std::vector<std::string> arguments) {
  if (arguments.empty()) {
    std::cerr << program_help(terminal_width());
    throw UsageError("Expected a subcommand, but got none; megatron --help lists them");
  }
  const std::string first = arguments.front();
  if (first == "--help" || first == "-h" || first == "help") {
    std::cout << program_help(terminal_width());
    return 0;
  }
  if (first == "--version") {
    std::cout << fmt::format("megatron {} (libtorch {})\n", MEGATRON_VERSION, TORCH_VERSION);
    return 0;
  }
  const Command command = command_from_name(first);
  arguments.erase(arguments.begin());
  if (asks_for(arguments, "--help", "-h")) {
    std::cout << command_help(command, terminal_width());
    return 0;
  }
  const ParsedCommand parsed = parse_options(command, arguments);
  if (parsed.options.recipe == kListRecipes) {
    std::cout << recipe_list();
    return 0;
  }
  RunCommand* const runner = find_runner(command);
  check(runner != nullptr,
        "Expected a build with megatron {}, but got one without it; build all folders", first);
  return runner(parsed);
}

// Flushes standard output first, so that the error is the last line.
int report(const std::string& message, int status) {
  std::cout.flush();
  std::fflush(stdout);
  std::cerr << "error: " << message << std::endl;
  return status;
}

}  // namespace
}  // namespace megatron

// Training steps free and allocate the same large blocks repeatedly. Returning them to the system
// in between costs page faults (2-10% of a step on a CPU).
static void keep_freed_memory() {
  mallopt(M_MMAP_MAX, 0);  // freed mappings are always returned to the system
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
}

int main(int argc, char** argv) {
  keep_freed_memory();
  // A write beyond the file-size limit then fails with an error instead of ending the process.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    const int status = megatron::run({argv + 1, argv + argc});
    std::cout.flush();
    if (!std::cout || std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      return megatron::report("Expected to write all output to standard output, but could not", 1);
    }
    return status;
  } catch (const megatron::UsageError& error) {
    std::cout.flush();
    std::cerr << error.details();
    return megatron::report(error.what(), 2);
  } catch (const std::exception& error) {
    return megatron::report(megatron::error_message(error), 1);
  }
}
