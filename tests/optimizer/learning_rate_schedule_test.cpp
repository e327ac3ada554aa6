// Values of Megatron's scheduler (warm-up 100, decay 1000, from 0.01 over 0.1 to 0.001).
#include "megatron/optimizer/learning_rate_schedule.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

namespace megatron {
namespace {

LearningRateSchedule schedule(LrDecayStyle style, WsdDecayStyle wsd_style = WsdDecayStyle::linear) {
  OptimizerConfig config;
  config.lr = 0.1;
  config.min_lr = 0.001;
  config.lr_warmup_init = 0.01;
  config.lr_warmup_iters = 100;
  config.lr_decay_iters = 1000;
  config.lr_decay_style = style;
  config.lr_wsd_decay_iters = 200;
  config.lr_wsd_decay_style = wsd_style;
  return {config, /*train_iters=*/5000};
}

TEST(LearningRateSchedule, WarmsUpLinearly) {
  const auto rate = schedule(LrDecayStyle::linear);
  EXPECT_DOUBLE_EQ(rate.learning_rate(0), 0.01);
  EXPECT_DOUBLE_EQ(rate.learning_rate(50), 0.055);
  EXPECT_DOUBLE_EQ(rate.learning_rate(100), 0.1);
}

TEST(LearningRateSchedule, Linear) {
  const auto rate = schedule(LrDecayStyle::linear);
  EXPECT_DOUBLE_EQ(rate.learning_rate(500), 0.1 - 0.099 * 400 / 900);
  EXPECT_DOUBLE_EQ(rate.learning_rate(1000), 0.001);
  EXPECT_DOUBLE_EQ(rate.learning_rate(1001), 0.001);
}

TEST(LearningRateSchedule, Cosine) {
  const auto rate = schedule(LrDecayStyle::cosine);
  EXPECT_DOUBLE_EQ(rate.learning_rate(550), 0.001 + 0.099 * 0.5);
  EXPECT_DOUBLE_EQ(rate.learning_rate(325),
                   0.001 + 0.099 * 0.5 * (std::cos(std::numbers::pi / 4) + 1));
}

TEST(LearningRateSchedule, ConstantStaysForever) {
  EXPECT_DOUBLE_EQ(schedule(LrDecayStyle::constant).learning_rate(4000), 0.1);
}

TEST(LearningRateSchedule, WsdHoldsAndThenFalls) {
  const auto linear = schedule(LrDecayStyle::WSD, WsdDecayStyle::linear);
  EXPECT_DOUBLE_EQ(linear.learning_rate(800), 0.1);
  EXPECT_DOUBLE_EQ(linear.learning_rate(900), 0.001 + 0.099 * 0.5);
  EXPECT_DOUBLE_EQ(linear.learning_rate(1000), 0.001);
  EXPECT_DOUBLE_EQ(schedule(LrDecayStyle::WSD, WsdDecayStyle::cosine).learning_rate(900),
                   0.001 + 0.099 * 0.5);
  EXPECT_DOUBLE_EQ(schedule(LrDecayStyle::WSD, WsdDecayStyle::exponential).learning_rate(900),
                   0.001 + 0.099 * (2 * std::pow(0.5, 0.5) - 1));
  EXPECT_DOUBLE_EQ(schedule(LrDecayStyle::WSD, WsdDecayStyle::minus_sqrt).learning_rate(900),
                   0.001 + 0.099 * (1 - std::sqrt(0.5)));
}

// A run of train_samples counts samples, and so does a ramp: its iterations stand for samples.
TEST(LearningRateSchedule, CountsSamplesWhereTheRunDoes) {
  OptimizerConfig config;
  config.lr = 1.0;
  config.lr_warmup_samples = 100;
  config.lr_decay_samples = 900;
  TrainingConfig training;
  training.train_samples = 2000;
  training.train_iters = 250;
  const LearningRateSchedule by_samples(config, training, {}, 8);
  EXPECT_DOUBLE_EQ(by_samples.learning_rate(50), 0.5);
  EXPECT_DOUBLE_EQ(by_samples.learning_rate(500), 0.5);
  config.lr_decay_samples.reset();
  EXPECT_DOUBLE_EQ(LearningRateSchedule(config, training, {}, 8).learning_rate(1050), 0.5);
  config.lr_warmup_samples = 0;
  config.lr_warmup_fraction = 0.1;
  EXPECT_DOUBLE_EQ(LearningRateSchedule(config, training, {}, 8).learning_rate(100), 0.5);

  OptimizerConfig by_iterations;
  by_iterations.lr = 1.0;
  by_iterations.lr_warmup_iters = 10;
  TrainingConfig iterations;
  iterations.train_iters = 110;
  BatchConfig batch{.global_batch_size = 8, .rampup_batch_size = {2, 2, 100}};
  const LearningRateSchedule ramp(by_iterations, iterations, batch, 8);
  EXPECT_DOUBLE_EQ(ramp.learning_rate(40), 0.5);
  EXPECT_DOUBLE_EQ(ramp.learning_rate(480), 0.5);
  batch.rampup_batch_size.clear();
  EXPECT_DOUBLE_EQ(LearningRateSchedule(by_iterations, iterations, batch, 8).learning_rate(60),
                   0.5);
}

// Embeddings and output layer: their own peak and minimum, the same warm-up.
TEST(LearningRateSchedule, DecoupledRateHasItsOwnRange) {
  OptimizerConfig config;
  config.lr = 1.0;
  config.min_lr = 0.2;
  config.lr_warmup_iters = 10;
  config.lr_decay_iters = 110;
  EXPECT_DOUBLE_EQ(LearningRateSchedule(config, 500).decoupled_learning_rate(60), 0.6);
  config.decoupled_lr = 3.0;
  EXPECT_DOUBLE_EQ(LearningRateSchedule(config, 500).decoupled_learning_rate(5), 1.5);
  EXPECT_DOUBLE_EQ(LearningRateSchedule(config, 500).decoupled_learning_rate(60), 1.6);
  config.decoupled_min_lr = 1.0;
  EXPECT_DOUBLE_EQ(LearningRateSchedule(config, 500).decoupled_learning_rate(60), 2.0);
  EXPECT_DOUBLE_EQ(LearningRateSchedule(config, 500).learning_rate(60), 0.6);
}

TEST(LearningRateSchedule, WarmupFractionIsOfTheDecay) {
  OptimizerConfig config;
  config.lr = 1.0;
  config.lr_warmup_fraction = 0.1;
  EXPECT_DOUBLE_EQ(LearningRateSchedule(config, 200).learning_rate(10), 0.5);
}

// 0.29 x 100 is 28.999999999999996 in floating point, and 0.125 x 10 is 1.25 steps.
TEST(LearningRateSchedule, WarmupFractionIsNotTruncatedToSteps) {
  OptimizerConfig config;
  config.lr = 1e-3;
  config.lr_warmup_fraction = 0.29;
  const LearningRateSchedule rate(config, /*train_iters=*/100);
  EXPECT_DOUBLE_EQ(rate.learning_rate(28), 1e-3 * 28 / 29);
  EXPECT_NEAR(rate.learning_rate(29), 1e-3, 1e-15);
  EXPECT_NEAR(rate.learning_rate(30), 1e-3 * (1 - 1.0 / 71), 1e-15);
  config.lr_warmup_fraction = 0.125;
  const LearningRateSchedule short_run(config, /*train_iters=*/10);
  EXPECT_DOUBLE_EQ(short_run.learning_rate(1), 1e-3 * 1 / 1.25);
  EXPECT_DOUBLE_EQ(short_run.learning_rate(2), 1e-3 * (1 - 0.75 / 8.75));
}

}  // namespace
}  // namespace megatron
