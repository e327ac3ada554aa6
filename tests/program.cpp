#include "tests/program.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace megatron {
namespace {

std::string contents(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

}  // namespace

ProgramResult run_program(const std::string& arguments, const std::string& environment,
                          const std::string& input, int timeout_seconds) {
  std::string pattern = testing::TempDir() + "/program-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr)
    throw std::runtime_error("Expected a temporary folder, but got none");
  const std::filesystem::path folder = pattern;
  std::ofstream(folder / "in", std::ios::binary) << input;
  const std::string command = environment + " timeout -k 5 " + std::to_string(timeout_seconds) +
                              " " + MEGATRON_PROGRAM " " + arguments + " < " +
                              (folder / "in").string() + " > " + (folder / "out").string() +
                              " 2> " + (folder / "err").string();
  const int status = std::system(command.c_str());
  ProgramResult result{.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
                       .output = contents(folder / "out"),
                       .errors = contents(folder / "err")};
  std::filesystem::remove_all(folder);
  return result;
}

}  // namespace megatron
