// What `megatron train` reports and refuses when a run resumes: other data, --finetune into a
// folder with checkpoints, logs that reach further than the checkpoint.
#include <gmock/gmock.h>
#include <set>

#include "megatron/checkpoint/checkpoint_directory.h"

#include "tests/training/train_program.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class ResumeProgram : public TrainProgram {
 protected:
  // A dataset of `documents` lines made of `letter`.
  std::string dataset(const std::string& name, int documents, char letter) {
    std::ofstream text(path(name + ".jsonl"));
    for (int i = 0; i < documents; ++i)
      text << nlohmann::json({{"text", std::string(40 + i, letter)}}) << '\n';
    text.close();
    const ProgramResult result =
        run_program("preprocess --tokenizer-type ByteTokenizer --append-eod --input " +
                    path(name + ".jsonl") + " --output-prefix " + path(name));
    EXPECT_EQ(result.status, 0) << result.errors;
    return path(name + "_text_document");
  }
  // Two samples a step.
  ProgramResult train_on(const std::string& data, const std::string& flags) {
    return run_program(
        "train --tokenizer-type ByteTokenizer --num-layers 1 --hidden-size 16 "
        "--num-attention-heads 2 --seq-length 16 --micro-batch-size 2 --train-iters 6 "
        "--eval-interval 0 --threads 1 --lr 1e-3 " +
        (data.empty() ? data : "--data-path " + data) + " --load " + path("c") + " --save " +
        path("c") + " " + flags);
  }
  // A run that was killed after step 5, with its last checkpoint at step 3.
  void train_and_kill(const std::string& flags) {
    const ProgramResult first = train("--save-interval 3 --exit-interval 5 --load " + path("c") +
                                      " --save " + path("c") + " " + flags);
    ASSERT_EQ(first.status, 0) << first.errors;
    std::filesystem::remove_all(path("c") + "/iter_0000005");
    std::ofstream(path("c") + "/latest_checkpointed_iteration.txt") << "3";
  }
  std::vector<int64_t> logged_steps(const std::string& file) const {
    std::vector<int64_t> steps;
    std::ifstream stream(file);
    for (std::string line; std::getline(stream, line);)
      steps.push_back(nlohmann::json::parse(line).at("step").get<int64_t>());
    return steps;
  }
};

TEST_F(ResumeProgram, OtherDataIsReportedWithTheSamplesThatAreSkipped) {
  const std::string first = dataset("first", 40, 'a'), second = dataset("second", 60, 'b');
  ASSERT_EQ(train_on(first, "--exit-interval 2").status, 0);
  const ProgramResult same = train_on(first, "--exit-interval 3");
  ASSERT_EQ(same.status, 0) << same.errors;
  EXPECT_THAT(same.output, Not(HasSubstr("resuming with")));
  const ProgramResult other = train_on(second, "--exit-interval 4");
  ASSERT_EQ(other.status, 0) << other.errors;
  EXPECT_THAT(
      other.output,
      HasSubstr("resuming with other training data: data_path was " + first + ", is " + second +
                ", documents was 40, is 60; samples 1 to 6 of it are skipped: training "
                "goes on at sample 7 (--finetune starts at sample 1)"));
  // Reported once: the checkpoint of step 4 has the second dataset.
  EXPECT_THAT(train_on(second, "--exit-interval 5").output, Not(HasSubstr("resuming with")));
}

TEST_F(ResumeProgram, AnotherBlendIsReported) {
  const std::string a = dataset("a", 40, 'a'), b = dataset("b", 60, 'b');
  ASSERT_EQ(train_on("3 " + a + " 1 " + b, "--exit-interval 2").status, 0);
  const ProgramResult same = train_on("6 " + a + " 2 " + b, "--exit-interval 3");
  ASSERT_EQ(same.status, 0) << same.errors;
  EXPECT_THAT(same.output, Not(HasSubstr("resuming with")));
  const ProgramResult weights = train_on("1 " + a + " 1 " + b, "--exit-interval 4");
  ASSERT_EQ(weights.status, 0) << weights.errors;
  EXPECT_THAT(weights.output,
              HasSubstr("resuming with the training samples in another order: data_path was 0.75 " +
                        a + " + 0.25 " + b + ", is 0.5 " + a + " + 0.5 " + b +
                        "; samples 1 to 6 of it are skipped"));
  const ProgramResult one = train_on(a, "--exit-interval 5");
  ASSERT_EQ(one.status, 0) << one.errors;
  EXPECT_THAT(one.output, HasSubstr("resuming with other training data: data_path was 0.5 " + a +
                                    " + 0.5 " + b + ", is " + a + ", documents was 100, is 40"));
  // The file of a script and the flags give the same data.
  std::ofstream(path("blend.txt")) << a << "\n";
  const ProgramResult file = train_on("", "--data-args-path " + path("blend.txt"));
  ASSERT_EQ(file.status, 0) << file.errors;
  EXPECT_THAT(file.output, Not(HasSubstr("resuming with")));
}

TEST_F(ResumeProgram, AMissingCheckpointIsRefusedWhereAsked) {
  const ProgramResult missing =
      train("--load " + path("c") + " --save " + path("c") + " --exit-on-missing-checkpoint");
  EXPECT_EQ(missing.status, 1);
  EXPECT_THAT(missing.output, Not(HasSubstr("step 1/8")));
  EXPECT_EQ(train("--load " + path("c") + " --save " + path("c") + " --exit-interval 1").status, 0);
  EXPECT_EQ(train("--load " + path("c") + " --save " + path("c") +
                  " --exit-on-missing-checkpoint --exit-interval 2")
                .status,
            0);
}

TEST_F(ResumeProgram, ChangedFilesBehindTheSamePathAreReported) {
  const std::string data = dataset("data", 40, 'a');
  ASSERT_EQ(train_on(data, "--exit-interval 2").status, 0);
  dataset("data", 40, 'b');  // documents of the same lengths
  const ProgramResult other = train_on(data, "--exit-interval 4");
  ASSERT_EQ(other.status, 0) << other.errors;
  EXPECT_THAT(other.output, HasSubstr("resuming with other training data: the files hold other "
                                      "tokens; samples 1 to 4 of it are skipped"));
}

TEST_F(ResumeProgram, AnotherOrderAndAnotherPathOfTheSameDataAreTold) {
  const std::string data = dataset("data", 40, 'a');
  ASSERT_EQ(train_on(data, "--exit-interval 2").status, 0);
  for (const char* suffix : {".bin", ".idx"})
    std::filesystem::copy_file(data + suffix, path("copy") + suffix);
  const ProgramResult moved = train_on(path("copy"), "--exit-interval 3");
  ASSERT_EQ(moved.status, 0) << moved.errors;
  EXPECT_THAT(moved.output,
              HasSubstr("resuming with the same training data from another path: "
                        "data_path was " +
                        data + ", is " + path("copy") + "; training goes on at sample 5"));
  const ProgramResult seeded = train_on(path("copy"), "--seed 7 --exit-interval 4");
  ASSERT_EQ(seeded.status, 0) << seeded.errors;
  EXPECT_THAT(seeded.output, HasSubstr("resuming with the training samples in another order: seed "
                                       "was 1234, is 7; samples 1 to 6 of it are skipped"));
}

TEST_F(ResumeProgram, FinetuneDoesNotOverwriteCheckpoints) {
  ASSERT_EQ(train("--save " + path("a") + " --exit-interval 3").status, 0);
  std::filesystem::create_directory_symlink(path("a"), path("link"));
  for (const std::string& save : {path("a"), path("a") + "/", path("link")}) {
    const ProgramResult same = train("--finetune --load " + path("a") + " --save " + save);
    EXPECT_EQ(same.status, 1);
    EXPECT_THAT(same.errors, AllOf(HasSubstr("Expected --save to name another folder than --load "
                                             "with --finetune"),
                                   HasSubstr("give a new folder to --save")));
  }
  EXPECT_EQ(latest_iteration(path("a")), 3);

  const std::string to_b = "--finetune --load " + path("a") + " --save " + path("b");
  const ProgramResult tuned = train(to_b + " --exit-interval 2");
  ASSERT_EQ(tuned.status, 0) << tuned.errors;
  EXPECT_THAT(tuned.output, AllOf(HasSubstr("fine-tuning the weights of " + path("a")),
                                  Not(HasSubstr("resumed from"))));
  // The same command again would start over and set the tracker back.
  const ProgramResult again = train(to_b + " --exit-interval 1");
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.errors, HasSubstr("holds iteration 2; give a new folder to --save, or resume "
                                      "that run by --load " +
                                      path("b") + " without --finetune"));
  EXPECT_EQ(latest_iteration(path("b")), 2);
}

TEST_F(ResumeProgram, AFreshStartSaysWhichCheckpointsItReplaces) {
  ASSERT_EQ(train("--save " + path("a") + " --exit-interval 3").status, 0);
  const ProgramResult fresh = train("--save " + path("a") + " --exit-interval 1");
  ASSERT_EQ(fresh.status, 0) << fresh.errors;
  EXPECT_THAT(fresh.output,
              HasSubstr("holds checkpoints of another run up to iteration 3; this run "
                        "starts at iteration 1"));
}

TEST_F(ResumeProgram, LogsRepeatNoStepsAfterAKill) {
  const std::string log = path("m.jsonl");
  train_and_kill("--log-json " + log + " --tensorboard-dir " + path("tb"));
  ASSERT_THAT(logged_steps(log), ElementsAre(1, 2, 3, 4, 5));
  const ProgramResult resumed = train("--load " + path("c") + " --save " + path("c") +
                                      " --log-json " + log + " --tensorboard-dir " + path("tb"));
  ASSERT_EQ(resumed.status, 0) << resumed.errors;
  EXPECT_THAT(logged_steps(log), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(logged_steps(path("m.superseded.jsonl")), ElementsAre(4, 5));
  std::multiset<int64_t> evaluated;
  std::ifstream events(path("m.events.jsonl"));
  for (std::string line; std::getline(events, line);) {
    const nlohmann::json event = nlohmann::json::parse(line);
    if (event["event"] == "evaluation" && event["split"] == "validation")
      evaluated.insert(event["step"].get<int64_t>());
  }
  EXPECT_THAT(evaluated, ElementsAre(4, 8));
}

// Killed before the first checkpoint: the same command starts from scratch.
TEST_F(ResumeProgram, LogsRepeatNoStepsWithoutACheckpoint) {
  const std::string flags = "--load " + path("c") + " --save " + path("c") + " --log-json " +
                            path("m.jsonl") + " --exit-interval 2";
  ASSERT_EQ(train(flags).status, 0);
  std::filesystem::remove_all(path("c"));
  ASSERT_EQ(train(flags).status, 0);
  EXPECT_THAT(logged_steps(path("m.jsonl")), ElementsAre(1, 2));
}

TEST_F(ResumeProgram, StepsBeforeAnExitBetweenLogIntervalsArePrinted) {
  const ProgramResult result = train("--log-interval 4 --exit-interval 6");
  ASSERT_EQ(result.status, 0) << result.errors;
  const size_t line = result.output.find("step 6/8 | loss ");
  EXPECT_NE(line, std::string::npos) << result.output;
  EXPECT_LT(line, result.output.find("stopping after iteration 6"));
}

}  // namespace
}  // namespace megatron
