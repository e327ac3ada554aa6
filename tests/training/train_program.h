// Runs `megatron train` on a tiny model with mock data.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/checkpoint/checkpoint_reader.h"

#include "tests/program.h"
#include "tests/temporary_folder.h"

namespace megatron {

inline const std::string kModel =
    " --mock-data --vocab-size 96 --make-vocab-size-divisible-by 8 --num-layers 4 --hidden-size 32"
    " --num-attention-heads 4 --seq-length 16 --micro-batch-size 2 --global-batch-size 8 "
    "--train-iters 8"
    " --lr-decay-style cosine --lr-warmup-iters 2 --hidden-dropout 0.1 --attention-dropout 0.1 "
    "--eval-interval 4"
    " --eval-iters 2 --threads 1";

class TrainProgram : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_ / name; }

  ProgramResult train(const std::string& flags, const std::string& environment = "",
                      const std::string& lr = "1e-3") {
    return run_program("train" + kModel + " --lr " + lr + " " + flags, environment);
  }

  // Losses and gradient norms of a JSON log, by step.
  static std::map<int64_t, std::pair<double, double>> read_log(const std::string& file) {
    std::ifstream stream(file);
    std::map<int64_t, std::pair<double, double>> steps;
    for (std::string line; std::getline(stream, line);) {
      const nlohmann::json json = nlohmann::json::parse(line);
      steps[json["step"]] = {json["loss"], json["grad_norm"]};
    }
    return steps;
  }

  static void expect_equal_checkpoints(const std::string& left, const std::string& right) {
    auto a = CheckpointReader::open(left), b = CheckpointReader::open(right);
    ASSERT_EQ(a.keys(), b.keys());
    for (const std::string& key : a.keys())
      EXPECT_TRUE(at::equal(a.load_tensor(key), b.load_tensor(key))) << key;
    EXPECT_EQ(a.common()["consumed_samples"], b.common()["consumed_samples"]);
  }

  const TemporaryFolder folder_;
};

}  // namespace megatron
