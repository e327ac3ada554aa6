#include "tests/program.h"

#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace megatron {
namespace {

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void redirect(const std::string& path, int flags, int descriptor) {
  dup2(open(path.c_str(), flags, 0600), descriptor);
}

}  // namespace

std::string last_line(const std::string& text) {
  const size_t end = text.find_last_not_of('\n');
  const size_t start = text.find_last_of('\n', end);
  return text.substr(start == std::string::npos ? 0 : start + 1,
                     end == std::string::npos ? 0 : end - start);
}

ChildProgram::ChildProgram(const std::vector<std::string>& arguments,
                           const std::map<std::string, std::string>& variables,
                           const std::string& input) {
  std::ofstream(folder_ / "in", std::ios::binary) << input;
  std::vector<char*> pointers;
  for (const auto& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  pid_ = fork();
  if (pid_ != 0) return;
  for (const char* name :
       {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
        "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMP_NUM_THREADS"}) {
    unsetenv(name);
  }
  for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  redirect(folder_ / "in", O_RDONLY, STDIN_FILENO);
  redirect(folder_ / "out", O_CREAT | O_WRONLY | O_APPEND, STDOUT_FILENO);
  redirect(folder_ / "err", O_CREAT | O_WRONLY | O_APPEND, STDERR_FILENO);
  execv(pointers[0], pointers.data());
  _exit(126);
}

ChildProgram::~ChildProgram() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

int ChildProgram::wait() {
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = 0;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::string ChildProgram::out() const {
  return contents(folder_ / "out");
}

std::string ChildProgram::err() const {
  return contents(folder_ / "err");
}

ProgramResult run_program(const std::string& arguments, const std::string& environment,
                          const std::string& input, int timeout_seconds) {
  ChildProgram shell({"/bin/sh", "-c",
                      environment + " timeout -k 5 " + std::to_string(timeout_seconds) + " " +
                          MEGATRON_PROGRAM + " " + arguments},
                     {}, input);
  const int status = shell.wait();
  return {.status = status, .output = shell.out(), .errors = shell.err()};
}

}  // namespace megatron
