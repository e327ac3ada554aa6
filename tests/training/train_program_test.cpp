// `megatron train` as a program: resume bit for bit, resume in another layout, signals, bad input.
#include "tests/training/train_program.h"

#include <csignal>
#include <gmock/gmock.h>
#include <numbers>
#include <set>

namespace megatron {
namespace {

using testing::HasSubstr;

class BitwiseResume : public TrainProgram, public testing::WithParamInterface<const char*> {};

TEST_P(BitwiseResume, EqualsAnUninterruptedRun) {
  const std::string layout = GetParam();
  const ProgramResult whole =
      train(layout + " --save " + path("whole") + " --log-json " + path("whole.jsonl"));
  ASSERT_EQ(whole.status, 0) << whole.errors;
  const ProgramResult first = train(layout + " --save " + path("parts") + " --exit-interval 5");
  ASSERT_EQ(first.status, 0) << first.errors;
  EXPECT_THAT(first.output, HasSubstr("--exit-interval reached"));
  const ProgramResult second = train(layout + " --load " + path("parts") + " --save " +
                                     path("parts") + " --log-json " + path("parts.jsonl"));
  ASSERT_EQ(second.status, 0) << second.errors;
  EXPECT_THAT(second.output, testing::Not(HasSubstr("not bit")));
  auto expected = read_log(path("whole.jsonl")), resumed = read_log(path("parts.jsonl"));
  ASSERT_EQ(resumed.size(), 3);
  for (const auto& [step, numbers] : resumed) EXPECT_EQ(numbers, expected[step]) << "step " << step;
  expect_equal_checkpoints(path("whole"), path("parts"));
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, BitwiseResume,
    testing::Values(
        "", "--bf16",
        "--nproc 2 --pipeline-model-parallel-size 2 --num-virtual-stages-per-pipeline-rank 2",
        "--nproc 4 --tensor-model-parallel-size 2 --pipeline-model-parallel-size 2",
        "--nproc 4 --threads-as-ranks --tensor-model-parallel-size 2 --sequence-parallel --bf16"));

// A token of the byte tokenizer is one byte, so bits per byte equal the loss in bits, for any split
// of the validation batch over the ranks.
TEST_F(TrainProgram, BitsPerByteAreTheSameInEveryLayout) {
  std::ofstream text(path("text.txt"));
  for (int i = 0; i < 200; ++i)
    text << "# document " << i << "\n" << std::string(20, 'a' + i % 26) << "\n";
  text.close();
  const ProgramResult preprocessed =
      run_program("preprocess --tokenizer-type ByteTokenizer --document-start '^# ' --input " +
                  path("text.txt") + " --output-prefix " + path("text"));
  ASSERT_EQ(preprocessed.status, 0) << preprocessed.errors;
  for (const char* layout :
       {"--nproc 1", "--nproc 2 --context-parallel-size 2", "--nproc 2",
        "--nproc 4 --context-parallel-size 2 --pipeline-model-parallel-size 2"}) {
    const ProgramResult result = run_program(
        "train --tokenizer-type ByteTokenizer --split 80,20,0 --num-layers 2 --hidden-size 16 "
        "--num-attention-heads 2 --seq-length 16 --micro-batch-size 2 --global-batch-size 4 "
        "--train-iters 2 --eval-interval 2 --eval-iters 2 --threads 1 --threads-as-ranks --lr 1e-3 "
        "--data-path " +
        path("text_text_document") + " --log-json " + path("log.jsonl") + " " + layout);
    ASSERT_EQ(result.status, 0) << result.errors;
    std::ifstream events(path("log.events.jsonl"));
    int evaluations = 0;
    for (std::string line; std::getline(events, line);) {
      const nlohmann::json event = nlohmann::json::parse(line);
      if (!event.contains("bits_per_byte")) continue;
      ++evaluations;
      EXPECT_NEAR(event["bits_per_byte"].get<double>(),
                  event["loss"].get<double>() / std::numbers::ln2, 1e-6)
          << layout << ": " << line;
    }
    EXPECT_GT(evaluations, 0) << layout;
  }
}

TEST_F(TrainProgram, ResumesInAnotherLayoutWithTheSameLosses) {
  const ProgramResult whole =
      train("--save " + path("whole") + " --log-json " + path("whole.jsonl"));
  ASSERT_EQ(whole.status, 0) << whole.errors;
  ASSERT_EQ(train("--nproc 4 --tensor-model-parallel-size 2 --pipeline-model-parallel-size 2 "
                  "--exit-interval 4 --save " +
                  path("parts"))
                .status,
            0);
  const ProgramResult resumed =
      train("--nproc 4 --threads-as-ranks --tensor-model-parallel-size 2 --load " + path("parts") +
            " --log-json " + path("parts.jsonl"));
  ASSERT_EQ(resumed.status, 0) << resumed.errors;
  EXPECT_THAT(resumed.output, HasSubstr("bit"));  // the note that the resume is not bit-identical
  auto expected = read_log(path("whole.jsonl")), ours = read_log(path("parts.jsonl"));
  ASSERT_EQ(ours.size(), 4);
  for (const auto& [step, numbers] : ours) {
    EXPECT_NEAR(numbers.first, expected[step].first, 1e-5) << "step " << step;
    EXPECT_NEAR(numbers.second, expected[step].second, 1e-4) << "step " << step;
  }
}

// Saved on one stage, loaded on two, of which the second has the MTP layers and a copy of the
// embedding.
TEST_F(TrainProgram, MultiTokenPredictionResumesInAnotherLayout) {
  const std::string mtp = "--mtp-num-layers 2 ";
  const ProgramResult whole =
      train(mtp + "--save " + path("whole") + " --log-json " + path("whole.jsonl"));
  ASSERT_EQ(whole.status, 0) << whole.errors;
  EXPECT_THAT(whole.output, HasSubstr("| mtp  "));
  auto checkpoint = CheckpointReader::open(path("whole"));
  EXPECT_TRUE(checkpoint.contains("mtp.layers.1.transformer_layer.mlp.linear_fc1.weight"));
  ASSERT_EQ(train(mtp + "--exit-interval 4 --save " + path("parts")).status, 0);
  const ProgramResult resumed =
      train(mtp +
            "--nproc 4 --threads-as-ranks --tensor-model-parallel-size 2 "
            "--pipeline-model-parallel-size 2 --sequence-parallel --load " +
            path("parts") + " --log-json " + path("parts.jsonl"));
  ASSERT_EQ(resumed.status, 0) << resumed.errors;
  auto expected = read_log(path("whole.jsonl")), ours = read_log(path("parts.jsonl"));
  ASSERT_EQ(ours.size(), 4);
  for (const auto& [step, numbers] : ours) {
    EXPECT_NEAR(numbers.first, expected[step].first, 1e-5) << "step " << step;
    EXPECT_NEAR(numbers.second, expected[step].second, 1e-4) << "step " << step;
  }
}

TEST_F(TrainProgram, AnUnwritableSaveIsRefusedBeforeTheFirstStep) {
  std::ofstream(path("file")) << "not a folder";
  for (const std::string& folder : {path("file"), std::string("/proc/x")}) {
    const ProgramResult result = train("--save " + folder);
    EXPECT_EQ(result.status, 1);
    EXPECT_THAT(result.errors, HasSubstr("Expected --save to name a directory"));
    EXPECT_THAT(result.output, testing::Not(HasSubstr("step 1/8")));
  }
}

TEST_F(TrainProgram, ResumeNamesTheOptionsThatChanged) {
  const std::string both = "--load " + path("c") + " --save " + path("c");
  const ProgramResult first = train(both + " --exit-interval 2");
  ASSERT_EQ(first.status, 0) << first.errors;
  EXPECT_THAT(first.output, HasSubstr("training begins from scratch"));
  const ProgramResult sgd = train(both + " --optimizer sgd");
  EXPECT_EQ(sgd.status, 1);
  EXPECT_THAT(sgd.errors, HasSubstr("Expected --optimizer adam"));
  const ProgramResult changed = train(both + " --seed 7 --exit-interval 4", "", "2e-3");
  ASSERT_EQ(changed.status, 0) << changed.errors;
  EXPECT_THAT(changed.output, HasSubstr("not bit-identical"));
  EXPECT_THAT(changed.output, HasSubstr("seed was 1234, is 7"));
  EXPECT_THAT(changed.output, HasSubstr("lr was 0.001, is 0.002"));
  EXPECT_EQ(train(both).status, 0);
  const ProgramResult done = train(both);
  EXPECT_EQ(done.status, 0);
  EXPECT_THAT(done.output, HasSubstr("nothing left to do"));
}

TEST_F(TrainProgram, MissingCheckpointElsewhereIsAnError) {
  EXPECT_EQ(train("--load " + path("nowhere") + " --save " + path("c")).status, 1);
}

TEST_F(TrainProgram, SaysThatASplitIsEmpty) {
  const ProgramResult result = train("--split 1,0,0 --exit-interval 1");
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("no validation loss: the split 1,0,0"));
}

TEST_F(TrainProgram, AFullStandardOutputFailsTheRunAfterItsCheckpoint) {
  const ProgramResult result = train("--save " + path("c") + " > /dev/full");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.errors, HasSubstr("standard output"));
  EXPECT_EQ(CheckpointReader::open(path("c")).iteration(), 8);
}

TEST_F(TrainProgram, AnImpossibleLayoutIsRefusedBeforeRanksStart) {
  const ProgramResult result = train("--nproc 3 --tensor-model-parallel-size 2");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.errors, testing::Not(HasSubstr("rank ")));
}

TEST_F(TrainProgram, PrintsEachStepOnceInAnyLayout) {
  const ProgramResult result = train("--nproc 2 --pipeline-model-parallel-size 2");
  ASSERT_EQ(result.status, 0) << result.errors;
  size_t lines = 0;
  for (size_t at = result.output.find("step 3/8"); at != std::string::npos;
       at = result.output.find("step 3/8", at + 1)) {
    ++lines;
  }
  EXPECT_EQ(lines, 1);
  EXPECT_EQ(result.output.find('\x1b'), std::string::npos);
}

TEST_F(TrainProgram, SigtermSavesAndExitsWithZero) {
  for (const char* layout : {"", "--nproc 2 --tensor-model-parallel-size 2"}) {
    const std::string save = path(std::string("save") + (*layout ? "2" : "1"));
    // The shell sends the signal once the first step is logged.
    const std::string log = save + ".jsonl";
    const std::string command = std::string("--version > /dev/null; (") + MEGATRON_PROGRAM +
                                " train" + kModel + " --train-iters=100000 " + layout + " --save " +
                                save + " --log-json " + log + " & pid=$!; while ! [ -s " + log +
                                " ]; do sleep 0.05; done; kill -TERM $pid; wait $pid)";
    std::string once = command;
    once.replace(once.find("--train-iters 8"), std::string("--train-iters 8").size(), "");
    const ProgramResult result = run_program(once);
    EXPECT_EQ(result.status, 0) << result.errors;
    EXPECT_THAT(result.output, HasSubstr("signal"));
    EXPECT_TRUE(std::filesystem::exists(save + "/latest_checkpointed_iteration.txt"));
  }
}

// As from a terminal, where each rank gets the signal twice: itself, and forwarded by its parent.
TEST_F(TrainProgram, CtrlCSavesAndExitsWithZero) {
  const std::string save = path("save"), log = path("log.jsonl");
  std::string model = kModel;
  model.replace(model.find("--train-iters 8"), std::string("--train-iters 8").size(), "");
  // Job control gives the program a process group of its own.
  const std::string command =
      std::string("--version > /dev/null; bash -c 'set -m; ") + MEGATRON_PROGRAM + " train" +
      model + " --train-iters=100000 --nproc 2 --save " + save + " --log-json " + log +
      " & pid=$!; while ! [ -s " + log + " ]; do sleep 0.05; done; kill -INT -- -$pid; wait $pid'";
  const ProgramResult result = run_program(command);
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("received a signal"));
  EXPECT_TRUE(std::filesystem::exists(save + "/latest_checkpointed_iteration.txt"));
}

// Lists on the command line reach the model.
TEST_F(TrainProgram, WindowsAndLayersWithoutRopeChangeTheLoss) {
  std::set<double> losses;
  int64_t runs = 0;
  for (const char* flags :
       {"", "--window-size 3,0", "--window-size 3,0 --window-attn-skip-freq 2",
        "--position-embedding-type rope", "--position-embedding-type rope --no-rope-freq 2"}) {
    const std::string log = path(std::to_string(runs++) + ".jsonl");
    const ProgramResult result = train(std::string(flags) + " --exit-interval 2 --log-json " + log);
    ASSERT_EQ(result.status, 0) << flags << result.errors;
    losses.insert(read_log(log).at(2).first);
  }
  EXPECT_EQ(int64_t(losses.size()), runs);
}

TEST_F(TrainProgram, ANonFiniteLossIsAnErrorAndKeepsTheCheckpoint) {
  ASSERT_EQ(train("--save " + path("save") + " --exit-interval 3").status, 0);
  const ProgramResult result = train(
      "--load " + path("save") + " --save " + path("save") + " --save-interval 1 --clip-grad 0", "",
      "1e38");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.errors, HasSubstr("Expected a finite loss"));
  EXPECT_NO_THROW(CheckpointReader::open(path("save")));
}

TEST_F(TrainProgram, NoSpaceLeftIsAnErrorAndKeepsTheCheckpoint) {
  ASSERT_EQ(train("--save " + path("save") + " --exit-interval 3").status, 0);
  const ProgramResult result =
      train("--load " + path("save") + " --save " + path("save"), /*environment=*/"ulimit -f 40;");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.errors, HasSubstr("error: "));
  EXPECT_EQ(CheckpointReader::open(path("save")).iteration(), 3);
}

struct BadInput {
  const char* flags;
  const char* message;
  friend void PrintTo(const BadInput& input, std::ostream* out) { *out << input.flags; }
};

TEST_F(TrainProgram, TheHeaderNamesTheShardingAndThePeak) {
  const ProgramResult result =
      train("--nproc 2 --threads-as-ranks --use-distributed-optimizer --exit-interval 1");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("DP=2 (distributed optimizer), 2 ranks (threads)"));
  EXPECT_THAT(result.output, HasSubstr(" TFLOP/s in matrix products, measured at the start"));
}

// A plain text file is one document, which leaves none for validation.
TEST_F(TrainProgram, OneDocumentSaysHowToCutMore) {
  std::ofstream(path("text.txt")) << std::string(200, 'a');
  const ProgramResult data = run_program("preprocess --tokenizer-type ByteTokenizer --input " +
                                         path("text.txt") + " --output-prefix " + path("data"));
  ASSERT_EQ(data.status, 0) << data.errors;
  const ProgramResult result = run_program(
      "train --tokenizer-type ByteTokenizer --num-layers 1 --hidden-size 16 --num-attention-heads "
      "2 --seq-length 16 --train-iters 1 --threads 1 --data-path " +
      path("data_text_document"));
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("no validation loss: the split 969,30,1 leaves no documents "
                                       "for it; there are too few: preprocess --document-start"));
}

class Refused : public TrainProgram, public testing::WithParamInterface<BadInput> {};

TEST_P(Refused, WithOneLineThatSaysWhatWouldWork) {
  const ProgramResult result = train(GetParam().flags);
  EXPECT_NE(result.status, 0);
  EXPECT_THAT(result.errors, HasSubstr(GetParam().message));
  const auto last = result.errors.rfind("error: ");
  ASSERT_NE(last, std::string::npos) << result.errors;
  EXPECT_EQ(result.errors.find('\n', last), result.errors.size() - 1) << result.errors;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Refused,
    testing::Values(BadInput{"--nproc 3 --tensor-model-parallel-size 2", "2"},
                    BadInput{"--nproc 3 --pipeline-model-parallel-size 3", "num-layers"},
                    BadInput{"--nproc 2 --pipeline-model-parallel-size 2 "
                             "--pipeline-model-parallel-layout \"Et|ttL\"",
                             "adding 1 't' works"},
                    BadInput{"--nproc 2 --pipeline-model-parallel-size 2 "
                             "--num-virtual-stages-per-pipeline-rank 2 "
                             "--microbatch-group-size-per-virtual-pipeline-stage 3",
                             "; 4 works"},
                    BadInput{"--load /nowhere", "/nowhere"},
                    BadInput{"--num-layrs 2", "--num-layers"},
                    BadInput{"--tokenizer-model /etc/passwd", "/etc/passwd"},
                    BadInput{"--context-parallel-size 2", "x context 2"},
                    BadInput{"--tensor-model-parallel-size 2", "--nproc 2, or torchrun"}));

}  // namespace
}  // namespace megatron
