// Invalid options are refused with errors that name valid values.
#include "megatron/config/validate/validate.h"

#include <algorithm>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/problems.h"
#include "megatron/config/options/command_line.h"

#include "tests/config/usage_message.h"

namespace megatron {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Arguments = std::vector<std::string>;

// Valid arguments, some replaced by `more`.
Arguments good_arguments(const Arguments& more) {
  const std::vector<Arguments> good = {
      {"--num-layers", "4"},  {"--hidden-size", "64"}, {"--num-attention-heads", "4"},
      {"--seq-length", "32"}, {"--vocab-size", "128"}, {"--train-iters", "10"},
      {"--mock-data"}};
  Arguments arguments = more;
  for (const Arguments& flag : good) {
    const bool replaced = std::any_of(more.begin(), more.end(), [&](const auto& argument) {
      return argument.substr(0, argument.find('=')) == flag.front();
    });
    if (!replaced) arguments.insert(arguments.end(), flag.begin(), flag.end());
  }
  return arguments;
}

std::string validation_refusal(const Arguments& more, int world_size = 1,
                               Command command = Command::train) {
  return message_of([&] {
    Options options = parse_options(Command::train, good_arguments(more)).options;
    validate(options, world_size, command);
  });
}

// There is one problem: without virtual stages there are no groups.
TEST(MicrobatchGroups, RequireVirtualStages) {
  const Arguments group = {"--microbatch-group-size-per-virtual-pipeline-stage", "2"};
  const std::string message = validation_refusal(group);
  EXPECT_THAT(message, AllOf(HasSubstr("several virtual stages"), Not(HasSubstr("problems"))));
  EXPECT_TRUE(message.ends_with("but got one; leave it out")) << message;
  EXPECT_EQ(validation_refusal({}), "accepted");
}

TEST(DeferredWeightGradients, AllowOverlappedReduction) {
  EXPECT_EQ(validation_refusal({"--overlap-grad-reduce", "--defer-embedding-wgrad-compute",
                                "--pipeline-model-parallel-size", "2"},
                               2),
            "accepted");
}

struct BadCase {
  Arguments arguments;
  int world_size;
  std::vector<std::string> parts;  // of the message

  friend void PrintTo(const BadCase& bad, std::ostream* out) {
    for (const auto& argument : bad.arguments) *out << argument << ' ';
  }
};

TEST(Validate, MissingIterationsAreReportedOnce) {
  const std::string message = validation_refusal({"--profile", "--train-iters", "0"});
  EXPECT_THAT(message, HasSubstr("--train-iters of at least 1, which is required"));
  EXPECT_THAT(message, Not(HasSubstr("--profile-step-end")));
}

class InvalidOptions : public ::testing::TestWithParam<BadCase> {};

TEST_P(InvalidOptions, ErrorNamesValidValues) {
  const BadCase& bad = GetParam();
  const std::string message = validation_refusal(bad.arguments, bad.world_size);
  for (const auto& part : bad.parts) EXPECT_THAT(message, HasSubstr(part));
  EXPECT_THAT(message, HasSubstr("Expected "));
  EXPECT_THAT(message, HasSubstr(", but got "));
  EXPECT_THAT(message, Not(HasSubstr("\n")));
}

const BadCase kBadCases[] = {
    {{"--yarn-mscale", "2"}, 1, {"--position-embedding-type yarn with the --yarn-* options"}},
    {{"--qk-clip-threshold", "3"}, 1, {"--qk-clip with --qk-clip-threshold"}},
    {{"--cross-entropy-fusion-impl", "linear"}, 1, {"Expected --cross-entropy-loss-fusion with"}},
    {{"--mtp-loss-scaling-factor", "0.3"}, 1, {"Expected --mtp-num-layers with"}},
    {{"--fp32-residual-connection"}, 1, {"Expected --bf16 with --fp32-residual-connection"}},
    {{"--weight-decay", "0", "--apply-wd-to-1d-parameters"}, 1, {"--weight-decay above 0 with"}},
    {{"--lr-decay-style", "constant", "--lr-decay-iters", "5"}, 1, {"style that decays with"}},
    {{"--window-size", "3,3"}, 1, {"0 or -1 on the right", "but got 3,3"}},
    {{"--use-rotary-position-embeddings", "--use-rope-scaling", "--rope-dynamic-scaling-factor",
      "2"},
     1,
     {"one scaling of the rotary frequencies, but got", "--rope-dynamic-scaling-factor"}},
    {{"--use-parallel-residual", "--norm-placement", "after"},
     1,
     {"--norm-placement before with --use-parallel-residual, but got after"}},
    {{"--attn-logit-softcapping", "5", "--attention-backend", "flash", "--attention-dropout", "0"},
     1,
     {"with --attn-logit-softcapping, but got flash"}},
    {{"--position-embedding-type", "yarn", "--use-rope-scaling"}, 1, {"leave --use-rope-scaling"}},
    {{"--position-embedding-type", "yarn", "--rotary-seq-len-interpolation-factor", "2"},
     1,
     {"leave --rotary-seq-len-interpolation-factor out"}},
    {{"--position-embedding-type", "mrope", "--mrope-section", "4,2,2", "--use-rope-scaling"},
     1,
     {"Expected --use-rope-scaling or --position-embedding-type mrope, but got both"}},
    {{"--activation-func", "silu"}, 1, {"--gated-linear-unit with --activation-func silu"}},
    {{"--openai-gelu", "--bias-gelu-fusion"}, 1, {"--bias-gelu-fusion, but got openai_gelu"}},
    {{"--position-embedding-type", "yarn", "--rotary-base", "1"}, 1, {"--rotary-base above 1"}},
    {{"--no-mup-learning-rates"}, 1, {"Expected --use-mup with --no-mup-learning-rates"}},
    {{"--mtp-num-layers", "128", "--seq-length", "128"}, 1, {"below --seq-length (128)"}},
    {{"--softmax-scale", "0"}, 1, {"--softmax-scale above 0, but got 0"}},
    {{"--lr", "-1"}, 1, {"Expected --lr of at least 0, but got -1"}},
    {{"--num-layers", "0"}, 1, {"--num-layers of at least 1, which is required"}},
    {{"--num-layers", "-3"}, 1, {"--num-layers of at least 1, but got -3"}},
    {{"--hidden-size", "0"}, 1, {"--hidden-size"}},
    {{"--hidden-size", "9223372036854775807"}, 1, {"--hidden-size of at most 1073741824"}},
    {{"--num-attention-heads", "0"}, 1, {"--num-attention-heads of at least 1"}},
    {{"--seq-length", "0"}, 1, {"--seq-length of at least 1"}},
    {{"--num-query-groups", "0"}, 1, {"--num-query-groups of at least 1"}},
    {{"--micro-batch-size", "0"}, 1, {"--micro-batch-size of at least 1"}},
    {{"--global-batch-size", "-1"}, 1, {"--global-batch-size of at least 1"}},
    {{"--train-iters", "0"}, 1, {"--train-iters of at least 1"}},
    {{"--tensor-model-parallel-size", "0"}, 1, {"--tensor-model-parallel-size of at least 1"}},
    {{"--num-attention-heads", "5"},
     1,
     {"--hidden-size divisible by --num-attention-heads (5), but got 64", "60 or 65",
      "4 or 8 heads"}},
    {{"--num-query-groups", "3"}, 1, {"--num-query-groups (3), but got 4", "2 or 4 groups"}},
    {{"--num-attention-heads", "8", "--tensor-model-parallel-size", "3"},
     3,
     {"--num-attention-heads divisible by",
      "(3), but got 8; a tensor parallel size of 2 or 4 would work"}},
    {{"--num-attention-heads", "12", "--num-query-groups", "6", "--kv-channels", "4",
      "--tensor-model-parallel-size", "4"},
     4,
     {"or the reverse, but got 6 and 4", "size of 2, or 4 or 12 groups would work"}},
    {{"--num-attention-heads", "6", "--hidden-size", "48", "--num-query-groups", "1",
      "--tensor-model-parallel-size", "3"},
     3,
     {"queries, keys and values together divisible by --tensor-model-parallel-size (3), but got 64",
      "a tensor parallel size of 2 would work"}},
    {{"--num-attention-heads", "3", "--hidden-size", "64", "--kv-channels", "8", "--mtp-num-layers",
      "1", "--tensor-model-parallel-size", "3", "--ffn-hidden-size", "66"},
     3,
     {"--hidden-size with --mtp-num-layers divisible by --tensor-model-parallel-size (3)",
      "63 or 66"}},
    {{"--sequence-parallel", "--tensor-model-parallel-size", "2", "--seq-length", "63",
      "--max-position-embeddings", "63"},
     2,
     {"(2), but got 63; a sequence length of 62 would work"}},
    {{"--sequence-parallel", "--tensor-model-parallel-size", "2", "--seq-length", "63"},
     2,
     {"(2), but got 63; a sequence length of 62 or 64 would work"}},
    {{"--pipeline-model-parallel-size", "3"},
     3,
     {"--num-layers divisible by --pipeline-model-parallel-size (3), but got 4", "size of 2 or 4",
      "--num-layers 3 or 6"}},
    {{"--pipeline-model-parallel-size", "2", "--pipeline-model-parallel-layout", "Ett|tL"},
     2,
     {"number of 't'", "to be 4", "adding 1 't' works"}},
    {{"--pipeline-model-parallel-size", "4", "--mtp-num-layers", "1",
      "--pipeline-model-parallel-layout", "Ett|t|tm|L", "--micro-batch-size", "1"},
     4,
     {"learned positions", "mL works"}},
    {{"--pipeline-model-parallel-size", "2", "--mtp-num-layers", "1",
      "--pipeline-model-parallel-layout", "Ett|tt|m|L", "--position-embedding-type", "rope"},
     2,
     {"neither the first nor the last", "on rank 0 of 2", "mL works"}},
    {{"--pipeline-model-parallel-size", "2", "--microbatch-group-size-per-virtual-pipeline-stage",
      "2", "--global-batch-size", "4"},
     2,
     {"several virtual stages",
      "got one; leave it out, or give --num-virtual-stages-per-pipeline-rank 2"}},
    {{"--pipeline-model-parallel-size", "2", "--microbatch-group-size-per-virtual-pipeline-stage",
      "2", "--num-layers", "6"},
     2,
     {"got one; leave it out, or give --num-virtual-stages-per-pipeline-rank 3"}},
    {{"--pipeline-model-parallel-size", "4", "--num-virtual-stages-per-pipeline-rank", "2",
      "--microbatch-group-size-per-virtual-pipeline-stage", "1", "--global-batch-size", "6",
      "--num-layers", "8"},
     4,
     {"between --pipeline-model-parallel-size (4) and the 6 micro-batches", "but got 1; 6 works"}},
    {{"--pipeline-model-parallel-size", "2", "--num-virtual-stages-per-pipeline-rank", "2",
      "--microbatch-group-size-per-virtual-pipeline-stage", "1", "--global-batch-size", "4"},
     2,
     {"between --pipeline-model-parallel-size (2) and the 4 micro-batches", "but got 1; 2 works"}},
    {{"--pipeline-model-parallel-size", "2", "--num-virtual-stages-per-pipeline-rank", "2",
      "--microbatch-group-size-per-virtual-pipeline-stage", "2", "--global-batch-size", "5"},
     2,
     {"none or at least 2", "but got 1", "3 works, or leave it out"}},
    {{"--no-overlap-p2p-communication"},
     1,
     {"--pipeline-model-parallel-size above 1 with --no-overlap-p2p", "leave it out"}},
    {{"--ffn-hidden-size", "255", "--tensor-model-parallel-size", "2"},
     2,
     {"--ffn-hidden-size divisible by", "but got 255",
      "254 or 256, or a tensor parallel size of 1, would work"}},
    {{"--vocab-size", "127", "--no-pad-vocab", "--tensor-model-parallel-size", "2"},
     2,
     {"--vocab-size", "but got 127", "126 or 128"}},
    {{"--tensor-model-parallel-size", "2", "--pipeline-model-parallel-size", "2"},
     6,
     {"divisible by 4 (tensor 2 x pipeline 2), but got 6", "4 or 8 ranks"}},
    {{"--tensor-model-parallel-size", "2"},
     1,
     {"divisible by 2", "2 ranks would work: --nproc 2, or torchrun --nproc-per-node 2"}},
    {{"--global-batch-size", "6", "--micro-batch-size", "2"},
     2,
     {"--micro-batch-size 2 x data parallel 2), but got 6", "4 or 8"}},
    {{"--sequence-parallel", "--tp-comm-overlap"},
     1,
     {"--tensor-model-parallel-size above 1 with --sequence-parallel"}},
    {{"--tp-comm-overlap", "--tensor-model-parallel-size", "2"},
     2,
     {"--sequence-parallel with --tp-comm-overlap, but got none"}},
    {{"--defer-embedding-wgrad-compute"},
     1,
     {"--pipeline-model-parallel-size above 1 with --defer-embedding-wgrad-compute, but got 1"}},
    {{"--defer-embedding-wgrad-compute", "--pipeline-model-parallel-size", "2",
      "--wgrad-deferral-limit", "-1"},
     2,
     {"--wgrad-deferral-limit of at least 0, but got -1"}},
    {{"--wgrad-deferral-limit", "2"},
     1,
     {"--defer-embedding-wgrad-compute with --wgrad-deferral-limit 2, but got none"}},
    {{"--defer-embedding-wgrad-compute", "--pipeline-model-parallel-size", "2",
      "--cross-entropy-loss-fusion", "--cross-entropy-fusion-impl", "linear"},
     2,
     {"--cross-entropy-fusion-impl native with --defer-embedding-wgrad-compute, but got linear"}},
    {{"--profile", "--profile-step-end", "11", "--profile-step-start", "11", "--train-iters", "99"},
     1,
     {"--profile-step-end above --profile-step-start (11), but got 11; 12 records one step"}},
    {{"--sequence-parallel", "--tensor-model-parallel-size", "2", "--seq-length", "33"},
     2,
     {"--seq-length with --sequence-parallel divisible by", "but got 33", "32 or 34"}},
    {{"--context-parallel-size", "0"}, 1, {"--context-parallel-size of at least 1, but got 0"}},
    {{"--context-parallel-size", "2"}, 3, {"divisible by 2", "x context 2), but got 3", "2 or 4"}},
    {{"--context-parallel-size", "2", "--seq-length", "34"},
     2,
     {"--seq-length divisible by 4 (2 x context parallel 2), but got 34", "32 or 36"}},
    {{"--context-parallel-size", "2", "--seq-length", "36", "--tensor-model-parallel-size", "2",
      "--sequence-parallel"},
     4,
     {"divisible by 8 (2 x context parallel 2 x tensor parallel 2 with --sequence-parallel)",
      "but got 36", "32 or 40"}},
    {{"--cp-comm-type", "a2a"}, 1, {"--context-parallel-size above 1 with --cp-comm-type"}},
    {{"--context-parallel-size", "4", "--cp-comm-type", "a2a", "--tensor-model-parallel-size", "2"},
     8,
     {"divisible by --context-parallel-size (4)", "but got 2", "--cp-comm-type p2p or allgather"}},
    {{"--context-parallel-size", "2", "--cp-comm-type", "a2a", "--num-attention-heads", "18",
      "--hidden-size", "72", "--num-query-groups", "3"},
     2,
     {"with --cp-comm-type a2a, but got 3 and 2", "--cp-comm-type p2p or allgather works"}},
    {{"--context-parallel-size", "2", "--attention-backend", "flash", "--attention-dropout", "0"},
     2,
     {"--cp-comm-type p2p or allgather, but got flash", "auto works"}},
    {{"--tensor-model-parallel-size", "1073741824", "--pipeline-model-parallel-size", "1073741824",
      "--context-parallel-size", "1073741824"},
     1,
     {"number of ranks divisible by"}},
    {{"--context-parallel-size", "2", "--global-batch-size", "3", "--micro-batch-size", "1"},
     4,
     {"data parallel 2), but got 3"}},
    {{"--expert-model-parallel-size", "2"},
     2,
     {"--expert-model-parallel-size of 1 works", "Expected --num-experts"}},
    {{"--position-embedding-type", "rope", "--kv-channels", "15"},
     1,
     {"even head dimension", "14 or 16"}},
    {{"--position-embedding-type", "rope", "--rotary-percent", "0"},
     1,
     {"--rotary-percent above 0"}},
    {{"--position-embedding-type", "rope", "--rotary-percent", "0.2"},
     1,
     {"--rotary-percent", "0.25 would work"}},
    {{"--position-embedding-type", "rope", "--rotary-seq-len-interpolation-factor", "0.5"},
     1,
     {"--rotary-seq-len-interpolation-factor of at least 1"}},
    {{"--position-embedding-type", "rope", "--rope-scaling-factor", "4"},
     1,
     {"--use-rope-scaling"}},
    {{"--rotary-interleaved"},
     1,
     {"--position-embedding-type rope, yarn or mrope with --rotary-interleaved"}},
    {{"--rotary-base", "500000"}, 1, {"rope with --rotary-base"}},
    {{"--max-position-embeddings", "16"},
     1,
     {"--seq-length of at most", "(16), but got 32", "16 would work"}},
    {{"--kv-lora-rank", "16"}, 1, {"--multi-latent-attention with --kv-lora-rank, but got none"}},
    {{"--rope-type", "yarn"}, 1, {"--multi-latent-attention with --rope-type yarn"}},
    {{"--multi-latent-attention"}, 1, {"--position-embedding-type rope with --multi-latent"}},
    {{"--multi-latent-attention", "--position-embedding-type", "rope", "--qk-pos-emb-head-dim",
      "7"},
     1,
     {"even head dimension", "--qk-pos-emb-head-dim of 6 or 8"}},
    {{"--multi-latent-attention", "--position-embedding-type", "rope", "--v-head-dim", "0"},
     1,
     {"--v-head-dim of at least 1"}},
    {{"--multi-latent-attention", "--position-embedding-type", "rope", "--num-query-groups", "2",
      "--softmax-scale", "1", "--mscale", "2"},
     1,
     {"--multi-latent-attention or --num-query-groups, but got both",
      "--multi-latent-attention or --softmax-scale, but got both",
      "--rope-type yarn with YaRN's options, but got rope"}},
    {{"--multi-latent-attention", "--position-embedding-type", "rope", "--rope-type", "yarn",
      "--rotary-percent", "0.5"},
     1,
     {"--rotary-percent 1 with --rope-type yarn, but got 0.5"}},
    {{"--bias-gelu-fusion", "--squared-relu"}, 1, {"--bias-gelu-fusion"}},
    {{"--hidden-dropout", "1"}, 1, {"--hidden-dropout of at least 0 and below 1"}},
    {{"--attention-dropout", "-0.1"}, 1, {"--attention-dropout of at least 0 and below 1"}},
    {{"--norm-epsilon", "0"}, 1, {"--norm-epsilon above 0"}},
    {{"--init-method-std", "-1"}, 1, {"--init-method-std"}},
    {{"--bf16", "--params-dtype", "fp64"}, 1, {"--bf16 or --params-dtype fp64, but got both"}},
    {{"--pipeline-dtype", "bf16"}, 1, {"--pipeline-dtype"}},
    {{"--lr", "-1"}, 1, {"--lr of at least 0"}},
    {{"--min-lr", "1"}, 1, {"--min-lr between 0 and --lr"}},
    {{"--lr-warmup-init", "1"}, 1, {"--lr-warmup-init between 0 and --lr"}},
    {{"--adam-beta1", "1"}, 1, {"--adam-beta1 of at least 0 and below 1"}},
    {{"--adam-beta2", "-1"}, 1, {"--adam-beta2 of at least 0 and below 1"}},
    {{"--adam-eps", "0"}, 1, {"--adam-eps above 0"}},
    {{"--sgd-momentum", "1.5"}, 1, {"--sgd-momentum"}},
    {{"--clip-grad", "-1"}, 1, {"--clip-grad of at least 0"}},
    {{"--weight-decay", "-1"}, 1, {"--weight-decay of at least 0"}},
    {{"--lr-warmup-iters", "2", "--lr-warmup-fraction", "0.1"},
     1,
     {"--lr-warmup-fraction, but got both"}},
    {{"--lr-warmup-iters", "10"},
     1,
     {"--lr-warmup-iters below", "(iteration 10), but got 10", "--lr-warmup-iters 9 would work"}},
    {{"--lr-warmup-fraction", "1.5"}, 1, {"--lr-warmup-fraction"}},
    {{"--lr-decay-style", "WSD"}, 1, {"--lr-wsd-decay-iters with --lr-decay-style WSD"}},
    {{"--lr-wsd-decay-iters", "2"}, 1, {"--lr-decay-style WSD with --lr-wsd-decay-iters"}},
    {{"--lr-decay-style", "WSD", "--lr-wsd-decay-iters", "20"},
     1,
     {"(iteration 10), but got 20", "10 would work"}},
    {{"--data-path", "x"}, 1, {"one source of data, but got --mock-data and --data-path"}},
    {{"--mock-data=false", "--data-path", "x", "--data-args-path", "f"},
     1,
     {"but got --data-path and --data-args-path; leave all but one out"}},
    {{"--mock-data=false", "--valid-data-path", "x"},
     1,
     {"Expected --train-data-path with --valid-data-path"}},
    {{"--mock-data=false", "--train-data-path", "x", "--split", "1,1"},
     1,
     {"with --split, but got data by split", "leave --split out"}},
    {{"--rampup-batch-size", "2"}, 1, {"three numbers for --rampup-batch-size", "but got 1"}},
    {{"--rampup-batch-size", "2", "2", "10"}, 1, {"--global-batch-size with --rampup-batch-size"}},
    {{"--rampup-batch-size", "0", "2", "10", "--global-batch-size", "8"},
     1,
     {"first batch size of --rampup-batch-size of at least 1, but got 0"}},
    {{"--rampup-batch-size", "2", "0", "10", "--global-batch-size", "8"},
     1,
     {"increment of --rampup-batch-size of at least 1, but got 0"}},
    {{"--rampup-batch-size", "2", "2", "0", "--global-batch-size", "8"},
     1,
     {"samples of --rampup-batch-size of at least 1, but got 0"}},
    {{"--rampup-batch-size", "8", "2", "10", "--global-batch-size", "8"},
     1,
     {"begin below --global-batch-size (8), but got 8", "leave it out for a constant size"}},
    {{"--rampup-batch-size", "2", "4", "10", "--global-batch-size", "8"},
     1,
     {"(6) divisible by its increment, but got 4", "3 or 6 would work"}},
    {{"--rampup-batch-size", "2", "3", "10", "--global-batch-size", "8", "--micro-batch-size", "2"},
     2,
     {"divisible by 4 (--micro-batch-size 2 x data parallel 2), but got 2 and 3",
      "4 and 4 would work, or --decrease-batch-size-if-needed"}},
    {{"--decrease-batch-size-if-needed"},
     1,
     {"--global-batch-size with --decrease-batch-size-if-needed"}},
    {{"--decrease-batch-size-if-needed", "--global-batch-size", "3", "--micro-batch-size", "2"},
     2,
     {"global batch sizes of at least 4", "but got 3; 4 would work"}},
    {{"--num-layers", "8", "--pipeline-model-parallel-size", "2",
      "--num-layers-per-virtual-pipeline-stage", "2", "--global-batch-size", "8",
      "--rampup-batch-size", "2", "2", "10", "--microbatch-group-size-per-virtual-pipeline-stage",
      "4"},
     2,
     {"the 2 micro-batches of a step, but got 4"}},
    {{"--train-samples", "80"}, 1, {"--train-iters or --train-samples, but got both", "not 10"}},
    {{"--train-iters", "0", "--train-samples", "0"}, 1, {"--train-samples of at least 1"}},
    {{"--train-iters", "0", "--train-samples", "7", "--global-batch-size", "8"},
     1,
     {"at least one global batch (8), but got 7; 8 works"}},
    {{"--train-iters", "0", "--train-samples", "80", "--lr-warmup-iters", "2"},
     1,
     {"Expected --lr-warmup-samples with --train-samples, but got --lr-warmup-iters"}},
    {{"--train-iters", "0", "--train-samples", "80", "--lr-decay-iters", "2"},
     1,
     {"Expected --lr-decay-samples with --train-samples"}},
    {{"--lr-warmup-samples", "2"}, 1, {"Expected --lr-warmup-iters with --train-iters"}},
    {{"--lr-decay-samples", "2"}, 1, {"Expected --lr-decay-iters with --train-iters"}},
    {{"--train-iters", "0", "--train-samples", "80", "--lr-warmup-samples", "80"},
     1,
     {"--lr-warmup-samples below", "(sample 80), but got 80", "79 would work"}},
    {{"--decoupled-min-lr", "1e-5"}, 1, {"--decoupled-lr with --decoupled-min-lr"}},
    {{"--decoupled-lr", "-1"}, 1, {"--decoupled-lr of at least 0, but got -1"}},
    {{"--decoupled-lr", "1e-4", "--decoupled-min-lr", "1e-3"},
     1,
     {"--decoupled-min-lr between 0 and --decoupled-lr (0.0001), but got 0.001"}},
    {{"--empty-unused-memory-level", "3"}, 1, {"--empty-unused-memory-level 0, 1 or 2"}},
    {{"--exit-on-missing-checkpoint"}, 1, {"--load with --exit-on-missing-checkpoint"}},
    {{"--mock-data=false"},
     1,
     {"Expected --data-path or --train-data-path, but got none; --mock-data"}},
    {{"--vocab-size", "0"}, 1, {"--vocab-size of at least 1, but got 0"}},
    {{"--split", "a,b"}, 1, {"--split", "969,30,1"}},
    {{"--split", "1,2,3,4"}, 1, {"--split"}},
    {{"--split", "0,0"}, 1, {"--split"}},
    {{"--split", ""}, 1, {"--split"}},
    {{"--split", "9,-1"}, 1, {"--split"}},
    {{"--vocab-file", "v"}, 1, {"both --vocab-file and --merge-file"}},
    {{"--vocab-file", "v", "--merge-file", "m", "--tokenizer-model", "t"}, 1, {"but got both"}},
    {{"--tokenizer-type", "GPT2BPETokenizer"}, 1, {"--vocab-file and --merge-file with"}},
    {{"--tokenizer-type", "HuggingFaceTokenizer"}, 1, {"--tokenizer-model with"}},
    {{"--tokenizer-type", "ByteTokenizer", "--tokenizer-model", "t"}, 1, {"no tokenizer files"}},
    {{"--tokenizer-type", "Llama2Tokenizer"}, 1, {"--tokenizer-model with"}},
    {{"--tokenizer-type", "TikTokenizer"}, 1, {"--tokenizer-model with"}},
    {{"--tokenizer-model", "t.json", "--tiktoken-pattern", "v1"}, 1, {"TikTokenizer with"}},
    {{"--tiktoken-num-special-tokens", "20"}, 1, {"TikTokenizer with"}},
    {{"--tokenizer-model", "t.model", "--tokenizer-special-tokens", "<x>"},
     1,
     {"TikTokenizer with"}},
    {{"--tokenizer-model", "t.model", "--tokenizer-hf-include-special-tokens"},
     1,
     {"a HuggingFaceTokenizer with"}},
    {{"--save-interval", "5"}, 1, {"--save with --save-interval"}},
    {{"--finetune"}, 1, {"--load with --finetune"}},
    {{"--no-load-optim"}, 1, {"--load with --no-load-optim"}},
    {{"--eval-interval", "-1"}, 1, {"--eval-interval of at least 0"}},
    {{"--log-interval", "0"}, 1, {"--log-interval of at least 1"}},
    {{"--exit-duration-in-mins", "0"}, 1, {"--exit-duration-in-mins above 0"}},
    {{"--nproc", "0"}, 1, {"--nproc of at least 1"}},
    {{"--nproc", "4097"}, 1, {"--nproc of 1 to 4096", "but got 4097"}},
    {{"--pipeline-model-parallel-size", "2"}, 3, {"2 or 4 ranks would work: --nproc 2, or torch"}},
    {{"--threads", "0"}, 1, {"--threads of at least 1"}},
    {{"--threads-as-ranks"}, 1, {"--nproc with --threads-as-ranks"}},
    {{"--master-port", "70000"}, 1, {"--master-port between 1 and 65535"}},
    {{"--distributed-timeout-minutes", "0"}, 1, {"--distributed-timeout-minutes above 0"}},
    {{"--ddp-bucket-size", "0"}, 1, {"--ddp-bucket-size of at least 1"}},
    {{"--overlap-param-gather"},
     1,
     {"--use-distributed-optimizer, or", "--overlap-grad-reduce with --overlap-param-gather"}},
    {{"--use-distributed-optimizer", "--overlap-grad-reduce",
      "--overlap-param-gather-with-optimizer-step"},
     1,
     {"--overlap-param-gather with --overlap-param-gather-with-optimizer-step"}},
    {{"--data-parallel-sharding-strategy", "optim_grads"},
     1,
     {"--use-megatron-fsdp with --data-parallel-sharding-strategy optim_grads"}},
    {{"--use-megatron-fsdp", "--use-distributed-optimizer"}, 1, {"but got no_shard"}},
    {{"--use-megatron-fsdp", "--use-torch-fsdp2"},
     1,
     {"Expected --use-megatron-fsdp or --use-torch-fsdp2, but got both"}},
    {{"--use-torch-fsdp2", "--use-distributed-optimizer"},
     1,
     {"Expected no --use-distributed-optimizer with --use-torch-fsdp2"}},
    {{"--torch-fsdp2-no-reshard-after-forward"},
     1,
     {"--use-torch-fsdp2 with --torch-fsdp2-no-reshard-after-forward"}},
    {{"--ddp-num-buckets", "2", "--ddp-bucket-size", "9"}, 1, {"but got both; leave one out"}},
    {{"--ddp-pad-buckets-for-high-nccl-busbw"}, 1, {"but got no sharding"}},
    {{"--use-torch-fsdp2", "--overlap-grad-reduce", "--overlap-param-gather",
      "--overlap-param-gather-with-optimizer-step"},
     1,
     {"but got --use-torch-fsdp2, which gathers each layer before its forward pass"}},
    {{"--use-megatron-fsdp", "--data-parallel-sharding-strategy", "optim_grads_params",
      "--overlap-grad-reduce", "--overlap-param-gather",
      "--overlap-param-gather-with-optimizer-step"},
     1,
     {"but got optim_grads_params", "leave one out"}},
    {{"--recompute-granularity", "full"},
     1,
     {"--recompute-method and --recompute-num-layers with", "uniform and 1 work"}},
    {{"--recompute-granularity", "full", "--recompute-method", "block"},
     1,
     {"--recompute-method and --recompute-num-layers with", "uniform and 1 work"}},
    {{"--recompute-activations", "--recompute-method", "uniform"},
     1,
     {"--recompute-granularity full with --recompute-method", "leave them out"}},
    {{"--recompute-num-layers", "1"}, 1, {"--recompute-granularity full with", "leave them out"}},
    {{"--recompute-granularity", "full", "--recompute-method", "uniform", "--recompute-num-layers",
      "0"},
     1,
     {"--recompute-num-layers of at least 1, but got 0"}},
    {{"--recompute-granularity", "full", "--recompute-method", "uniform", "--recompute-num-layers",
      "5"},
     1,
     {"--recompute-num-layers of at most the 4 layers", "but got 5", "1 to 4 work"}},
    {{"--recompute-granularity", "full", "--recompute-method", "block", "--recompute-num-layers",
      "3", "--pipeline-model-parallel-size", "2"},
     2,
     {"--recompute-num-layers of at most the 2 layers", "but got 3", "1 to 2 work"}},
    {{"--recompute-granularity", "full", "--recompute-method", "uniform", "--recompute-num-layers",
      "1", "--recompute-modules", "mlp"},
     1,
     {"--recompute-granularity selective with --recompute-modules", "leave them out"}},
    {{"--recompute-modules", "mlp"}, 1, {"--recompute-granularity selective with"}},
    {{"--recompute-activations", "--recompute-modules", "moes"},
     1,
     {"core_attn, layernorm, mla_up_proj, mlp, moe", "but got 'moes'"}},
    {{"--recompute-activations", "--recompute-modules", "mla_up_proj"},
     1,
     {"--multi-latent-attention with --recompute-modules mla_up_proj", "leave mla_up_proj out"}},
    {{"--mtp-num-layers", "-1"}, 1, {"--mtp-num-layers of at least 0"}},
    {{"--mtp-use-repeated-layer"}, 1, {"--mtp-num-layers of at least 1", "1 works"}},
    {{"--mtp-detach-heads"}, 1, {"--mtp-num-layers of at least 1", "1 works"}},
    {{"--mtp-num-layers", "1", "--mtp-loss-scaling-factor", "-0.1"},
     1,
     {"--mtp-loss-scaling-factor of at least 0", "0.1 is usual"}},
    {{"--cuda-graph-impl", "local"}, 1, {"--cuda-graph-impl none"}},
    // Options without an effect.
    {{"--bf16", "--params-dtype", "fp32"}, 1, {"--bf16 or --params-dtype fp32, but got both"}},
    {{"--grad-reduce-in-bf16"}, 1, {"--bf16 with --grad-reduce-in-bf16"}},
    {{"--rope-scaling-factor", "4"}, 1, {"--rope-scaling-factor", "leave"}},
    {{"--master-port", "29500"}, 1, {"--master-port, but got one rank"}},
    {{"--master-addr", "node1"}, 1, {"--master-addr, but got one rank"}},
    {{"--nproc", "2", "--threads-as-ranks", "--master-port", "29500"},
     2,
     {"--master-port, but got threads"}},
    {{"--sgd-momentum", "0.8"}, 1, {"--optimizer sgd with --sgd-momentum, but got adam"}},
    {{"--optimizer", "sgd", "--adam-eps", "1e-6"}, 1, {"--optimizer adam with --adam-eps"}},
    {{"--lr-wsd-decay-style", "cosine"}, 1, {"--lr-decay-style WSD with --lr-wsd-decay-style"}},
    {{"--lr-warmup-init", "1e-5"}, 1, {"--lr-warmup-iters", "leave --lr-warmup-init out"}},
    {{"--lr-decay-style", "constant", "--min-lr", "1e-5"}, 1, {"--min-lr, but got constant"}},
    {{"--eval-interval", "0", "--eval-iters", "5"}, 1, {"--eval-interval above 0"}},
    {{"--no-pad-vocab", "--make-vocab-size-divisible-by", "8"},
     1,
     {"--no-pad-vocab, but got both"}},
    {{"--save", ""}, 1, {"a directory after --save"}},
    {{"--load", ""}, 1, {"a directory after --load"}},
};

INSTANTIATE_TEST_SUITE_P(Table, InvalidOptions, ::testing::ValuesIn(kBadCases),
                         [](const auto& info) {
                           std::string name = std::to_string(info.index);
                           for (const char c : info.param.arguments.front())
                             name += std::isalnum(c) != 0 ? c : '_';
                           return name;
                         });

TEST(Validate, SetsIterationsFromSamples) {
  const auto iterations = [](const Arguments& more, int world_size) {
    Options options = parse_options(Command::train, good_arguments(more)).options;
    validate(options, world_size);
    validate(options, world_size);  // again, as plan does
    return options.training.train_iters;
  };
  EXPECT_EQ(
      iterations({"--train-iters", "0", "--train-samples", "83", "--global-batch-size", "8"}, 2),
      10);
  // 4, 4, 4, 6, 6, 8 and then 10 each.
  EXPECT_EQ(iterations({"--train-iters", "0", "--train-samples", "75", "--global-batch-size", "10",
                        "--rampup-batch-size", "4", "2", "30"},
                       2),
            10);
  EXPECT_EQ(iterations({"--global-batch-size", "10", "--rampup-batch-size", "4", "2", "30"}, 2),
            10);
}

TEST(Validate, AcceptsTheSplitOfQuotedScripts) {
  Options options = parse_options(Command::train, good_arguments({"--split", "'99,1,0'"})).options;
  validate(options, 1);
  EXPECT_EQ(options.data.split, "99,1,0");
  EXPECT_EQ(validation_refusal({"--split", "0.9,0.1"}), "accepted");
  EXPECT_EQ(validation_refusal({"--split", "949,50,1"}), "accepted");
  EXPECT_THAT(validation_refusal({"--split", "'99,1,0"}), HasSubstr("up to three weights"));
}

TEST(Validate, AcceptsValidOptions) {
  EXPECT_EQ(validation_refusal({}), "accepted");
  EXPECT_EQ(validation_refusal(
                {"--tensor-model-parallel-size", "2", "--pipeline-model-parallel-size", "2",
                 "--sequence-parallel", "--global-batch-size", "8", "--micro-batch-size", "2"},
                8),
            "accepted");
  EXPECT_EQ(validation_refusal({"--vocab-size", "127", "--tensor-model-parallel-size", "2"}, 2),
            "accepted");
  EXPECT_EQ(validation_refusal({"--multi-latent-attention", "--position-embedding-type", "rope",
                                "--hidden-size", "66", "--rope-type", "yarn", "--mscale-all-dim",
                                "1", "--qk-layernorm"}),
            "accepted");
  EXPECT_EQ(validation_refusal({"--num-query-groups", "1", "--tensor-model-parallel-size", "4"}, 4),
            "accepted");
  EXPECT_EQ(validation_refusal({"--position-embedding-type", "rope", "--rotary-percent", "0.5",
                                "--use-rope-scaling", "--rope-scaling-factor", "4",
                                "--rotary-seq-len-interpolation-factor", "2",
                                "--max-position-embeddings", "16"}),
            "accepted");
  EXPECT_EQ(validation_refusal({"--lr-decay-style", "WSD", "--lr-wsd-decay-iters", "10"}),
            "accepted");
  EXPECT_EQ(validation_refusal({"--split", "98.5,1.5"}), "accepted");
  EXPECT_EQ(validation_refusal({"--split", "969, 30, 1"}), "accepted");
  EXPECT_EQ(validation_refusal({"--swiglu", "--bias-gelu-fusion"}), "accepted");
  EXPECT_EQ(validation_refusal({"--openai-gelu", "--apply-query-key-layer-scaling"}), "accepted");
  EXPECT_EQ(validation_refusal({"--params-dtype", "fp64", "--hidden-dropout", "0"}), "accepted");
  EXPECT_EQ(validation_refusal({"--recompute-granularity", "full", "--recompute-method", "uniform",
                                "--recompute-num-layers", "3"}),
            "accepted");
  EXPECT_EQ(validation_refusal({"--recompute-activations", "--recompute-modules", "core_attn",
                                "layernorm", "mlp"}),
            "accepted");
  EXPECT_EQ(validation_refusal({"--mtp-num-layers", "2", "--mtp-use-repeated-layer"}), "accepted");
}

// A plan does not need --train-iters or data. Given options are checked as for training.
TEST(Validate, PlanIsCheckedLikeTraining) {
  const Arguments model = {"--num-layers",          "4", "--hidden-size", "64",
                           "--num-attention-heads", "4", "--seq-length",  "32"};
  const auto refusal = [&](Arguments arguments) {
    arguments.insert(arguments.end(), model.begin(), model.end());
    return message_of([&] {
      Options options = parse_options(Command::plan, arguments).options;
      validate(options, /*world_size=*/2, Command::plan);
    });
  };
  EXPECT_EQ(refusal({"--vocab-size", "128"}), "accepted");
  EXPECT_EQ(refusal({"--tokenizer-model", "tokenizer.json"}), "accepted");
  EXPECT_EQ(refusal({"--vocab-size", "128", "--profile"}), "accepted");
  EXPECT_THAT(refusal({}), AllOf(HasSubstr("give --vocab-size"), HasSubstr("--tokenizer-model")));
  for (const auto& [flags, message] :
       {std::pair<Arguments, const char*>{{"--train-iters", "-1"}, "--train-iters of at least"},
        {{"--split", "x"}, "--split with up to three weights"},
        {{"--lr-warmup-iters", "9", "--train-iters", "9"}, "8 would work"},
        {{"--sgd-momentum", "0.8"}, "--optimizer sgd"},
        {{"--grad-reduce-in-bf16"}, "--bf16 with --grad-reduce-in-bf16"},
        {{"--overlap-param-gather"}, "--use-distributed-optimizer"},
        {{"--threads-as-ranks"}, "--nproc with --threads-as-ranks"},
        {{"--profile", "--profile-ranks", "2"}, "--profile-ranks within 0 to 1"},
        {{"--profile", "--train-iters", "5"}, "at most the run's 5 steps"},
        {{"--finetune"}, "--load with --finetune"},
        {{"--tensor-model-parallel-size", "4"}, "4 ranks would work: --world-size 4"}}) {
    Arguments arguments = flags;
    arguments.insert(arguments.end(), {"--vocab-size", "128"});
    EXPECT_THAT(refusal(arguments), HasSubstr(message)) << flags.front();
  }
}

TEST(Validate, AlignsBf16AndParamsDtype) {
  for (const Arguments& flags : {Arguments{"--bf16"}, Arguments{"--params-dtype", "bf16"}}) {
    Options options = parse_options(Command::train, good_arguments(flags)).options;
    validate(options, 1);
    EXPECT_TRUE(options.model.transformer.bf16);
    EXPECT_EQ(options.model.transformer.params_dtype, at::kBFloat16);
  }
}

TEST(Validate, ListsAllProblemsOnOneLine) {
  const std::string message = validation_refusal(
      {"--num-attention-heads", "5", "--lr", "-1", "--pipeline-model-parallel-size", "3"}, 4);
  EXPECT_THAT(message,
              AllOf(HasSubstr("(1) "), HasSubstr("--num-attention-heads (5), but got 64"),
                    HasSubstr("--lr of at least 0"), HasSubstr("--num-layers divisible by"),
                    HasSubstr("3 or 6 ranks"), Not(HasSubstr("\n"))));
}

TEST(Validate, ChecksOptionsOfOtherSubcommands) {
  const auto refusal_of = [](Command command, const Arguments& arguments) {
    return message_of([&] {
      Options options = parse_options(command, arguments).options;
      options.model.transformer.num_layers = 2;
      options.model.transformer.hidden_size = 64;
      options.model.transformer.num_attention_heads = 4;
      validate(options, 1, command);
    });
  };
  const Arguments generate = {"--load", "x", "--tokenizer-model", "t"};
  const auto with = [&](Arguments more) {
    more.insert(more.begin(), generate.begin(), generate.end());
    return more;
  };
  EXPECT_EQ(refusal_of(Command::generate, generate), "accepted");
  EXPECT_THAT(refusal_of(Command::generate, with({"--max-new-tokens", "0"})),
              HasSubstr("--max-new-tokens"));
  EXPECT_THAT(refusal_of(Command::generate, with({"--temperature", "-1"})),
              HasSubstr("--temperature"));
  EXPECT_THAT(refusal_of(Command::generate, with({"--top-p", "1.5"})), HasSubstr("--top-p"));
  EXPECT_THAT(refusal_of(Command::generate, with({"--top-p", "0.5", "--top-k", "3"})),
              HasSubstr("but got both"));
  EXPECT_THAT(refusal_of(Command::generate, with({"--num-samples", "0"})),
              HasSubstr("--num-samples"));
  EXPECT_THAT(refusal_of(Command::bench, {}), HasSubstr("--vocab-size of at least 1"));
  EXPECT_THAT(refusal_of(Command::bench, {"--vocab-size", "9", "--steps", "0"}),
              HasSubstr("--steps"));
  EXPECT_EQ(refusal_of(Command::bench, {"--vocab-size", "9"}), "accepted");
  for (const char* flag : {"--prompt-tokens", "--new-tokens", "--batch"}) {
    EXPECT_THAT(refusal_of(Command::bench, {"--vocab-size", "9", "--decode", flag, "0"}),
                HasSubstr(flag));
    EXPECT_THAT(refusal_of(Command::bench, {"--vocab-size", "9", flag, "3"}),
                HasSubstr("Expected --decode with"));
    EXPECT_EQ(refusal_of(Command::bench, {"--vocab-size", "9", "--decode", flag, "3"}), "accepted");
  }
  EXPECT_THAT(refusal_of(Command::parity, {"c.json", "--tolerance", "0"}),
              HasSubstr("--tolerance"));
  EXPECT_THAT(
      refusal_of(Command::preprocess, {"--input", "a", "--output-prefix", "b", "--workers", "0"}),
      HasSubstr("--workers"));
  EXPECT_THAT(refusal_of(Command::tokenize, {"--vocab-file", "v"}), HasSubstr("--merge-file"));
}

TEST(Nearest, DivisorsAndMultiples) {
  EXPECT_EQ(nearest_divisors(12, 5), "4 or 6");
  EXPECT_EQ(nearest_divisors(12, 4), "4");
  EXPECT_EQ(nearest_divisors(12, 50), "12");
  EXPECT_EQ(nearest_divisors(12, 0), "1");
  EXPECT_EQ(nearest_divisors(7, 3), "1 or 7");
  EXPECT_EQ(nearest_divisors(int64_t{1} << 40, 3), "2 or 4");
  EXPECT_EQ(nearest_multiples(4, 6), "4 or 8");
  EXPECT_EQ(nearest_multiples(4, 3), "4");
  EXPECT_EQ(nearest_multiples(4, 0), "4");
  EXPECT_EQ(nearest_multiples(4, 8), "8");
}

// A resume compares the stored text of a split with the new one.
TEST(Validate, TheSameSplitHasOneText) {
  for (const char* text : {"969,30,1", "969, 30, 1", "969/30/1", " 969 30 1"}) {
    Options options = parse_options(Command::train, good_arguments({"--split", text})).options;
    validate(options, 1);
    EXPECT_EQ(options.data.split, "969,30,1") << text;
  }
}

}  // namespace
}  // namespace megatron
