// Shared by the log tests: a temporary folder, files as text, an example run.
#pragma once

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <gtest/gtest.h>

#include "megatron/reporting/run_records.h"

#include "tests/temporary_folder.h"

namespace megatron {

inline std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

inline void append_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::app | std::ios::binary) << text;
}

// Limits the size of this process's files to `bytes`, to simulate a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*handler_)(int);
  rlimit before_{};
};

// Step `iteration` of a run whose loss falls from about 8 to 3.
inline StepRecord example_step(int64_t iteration) {
  const double x = static_cast<double>(iteration);
  StepRecord record;
  record.iteration = iteration;
  record.consumed_samples = 16 * iteration;
  record.batch_size = 16;
  record.loss = 3 + 5 / (1 + x / 20) + 0.1 * std::sin(x);
  record.grad_norm = 1 + 10 / x;
  record.learning_rate = 3e-4 * std::min(1.0, x / 50);
  record.step_ms = 80 + 5 * std::cos(x);
  record.tokens_per_s = 12000;
  record.model_tflops = 0.15;
  record.gemm_peak_fraction = 0.38;
  record.memory_mib = 812;
  return record;
}

inline RunDescription example_description() {
  RunDescription description;
  description.title = "4 layers x 256, 4.2M parameters";
  description.layout = "TP=2 x PP=2 x DP=1, 4 processes (gloo), 1 thread each";
  description.stages = {"stage 0: layers 0-1, 2.1M parameters",
                        "stage 1: layers 2-3, 2.1M parameters"};
  description.settings = {{"num-layers", "4"}, {"hidden-size", "256"}, {"seed", "42"}};
  description.train_iters = 600;
  description.world_size = 4;
  return description;
}

}  // namespace megatron
