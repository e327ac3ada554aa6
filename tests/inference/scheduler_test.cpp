// Properties of the scheduler on random traces, without a model: a cache that remembers how each
// token was computed takes its place.
#include "megatron/inference/scheduler.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <random>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/inference/ngram_lookup.h"
#include "megatron/ops/random/philox.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

// How the keys and values of a token came about: its id, those before it (a hash), and the row that
// computed it. Equal origins have equal bits.
struct Origin {
  int64_t token = -1;
  uint64_t before = 0;
  int64_t row_position = 0, row_count = 0, sequence_length = 0;
  bool operator==(const Origin&) const = default;
};

// The origins that a sequence must see when it runs alone.
std::vector<Origin> origins_alone(std::span<const int64_t> tokens, int64_t prefill,
                                  int64_t max_length, const SchedulerConfig& config) {
  std::vector<Origin> origins;
  uint64_t before = 0;
  int64_t first = 0, count = 0, held = 0;  // of the row that computes a token
  for (int64_t i = 0; i < std::ssize(tokens); ++i) {
    if (i == first + held) {
      first = i;
      if (i < prefill) {
        count = held = std::min(config.chunk_size, prefill - i);
      } else {
        const auto drafts = propose_by_ngram(
            tokens.first(i + 1), std::min(config.num_speculative_tokens, max_length - i - 2));
        count = 1 + std::ssize(drafts);
        held = 1;
        for (const int64_t draft : drafts) {
          if (i + held >= std::ssize(tokens) || tokens[i + held] != draft) break;
          ++held;
        }
      }
    }
    origins.push_back({tokens[i], before, first, count, i < prefill ? prefill : 0});
    before = mix64(before ^ static_cast<uint64_t>(tokens[i]));
  }
  return origins;
}

// Runs a scheduler and checks every step.
class Trace {
 public:
  Trace(const SchedulerConfig& config)
      : config_(config), scheduler_(config), cache_(config.num_blocks * config.block_size) {}

  struct Client {
    int64_t prompt = 0, max_length = 0, prefill = 0, prompt_logits = 0;
    bool wants_prompt_logits = false, done = false, paused = false;
    std::vector<int64_t> tokens;
    int64_t ends_at = 0;  // length at which the client ends it
  };

  Scheduler& scheduler() { return scheduler_; }
  std::map<int64_t, Client>& clients() { return clients_; }

  void add(std::vector<int64_t> prompt, int64_t max_length, int64_t ends_at, bool prompt_logits,
           std::optional<int64_t> shares) {
    const auto length = static_cast<int64_t>(prompt.size());
    scheduler_.add({.id = next_,
                    .prompt = prompt,
                    .max_length = max_length,
                    .wants_prompt_logits = prompt_logits,
                    .shares_prompt_of = shares});
    clients_[next_++] = {.prompt = length,
                         .max_length = max_length,
                         .prefill = length,
                         .wants_prompt_logits = prompt_logits,
                         .tokens = std::move(prompt),
                         .ends_at = ends_at};
  }

  // One step. Returns false without work.
  bool step() {
    const auto rows = scheduler_.next_step();
    if (rows.empty()) {
      EXPECT_FALSE(scheduler_.has_work());
      return false;
    }
    int64_t tokens = 0;
    std::set<int64_t> seen, written;
    std::vector<NextTokens> next;
    for (const ScheduledRow& row : rows) {
      tokens += row.count;
      EXPECT_TRUE(seen.insert(row.sequence).second) << "two rows of one sequence";
      run_row(row, written, next);
    }
    EXPECT_LE(tokens, config_.max_tokens);
    EXPECT_LE(scheduler_.running(), config_.max_requests);
    scheduler_.complete(rows, next);
    return true;
  }

 private:
  // The next token of a sequence is a function of its tokens.
  static int64_t next_of(const Client& client) {
    const int64_t last = client.tokens.back();
    const int64_t one_before =
        client.tokens.size() > 1 ? client.tokens[client.tokens.size() - 2] : 0;
    return (2 * last + one_before + 1) % 3;
  }

  void run_row(const ScheduledRow& row, std::set<int64_t>& written, std::vector<NextTokens>& next) {
    const StepRow step = scheduler_.step_row(row);
    Client& client = clients_.at(row.sequence);
    const int64_t end = row.position + row.count;
    ASSERT_FALSE(client.done || client.paused);
    ASSERT_LE(end - row.drafts, std::ssize(client.tokens));
    ASSERT_LT(end, client.max_length);
    ASSERT_TRUE(
        std::ranges::equal(step.tokens.first(row.count - row.drafts),
                           std::span(client.tokens).subspan(row.position, row.count - row.drafts)));
    ASSERT_EQ(std::ssize(step.blocks), scheduler_.blocks().blocks_for(end));
    if (config_.recompute_length > 0 && std::ssize(client.tokens) > config_.recompute_length &&
        client.prefill <= config_.recompute_length)
      client.prefill = config_.recompute_length + 1;
    const auto alone = origins_alone(client.tokens, client.prefill, client.max_length, config_);
    uint64_t before = 0;
    for (int64_t i = 0; i < end; ++i) {
      const int64_t slot =
          step.blocks[i / config_.block_size] * config_.block_size + i % config_.block_size;
      if (i >= row.position) {
        const int64_t token = step.tokens[i - row.position];
        EXPECT_TRUE(written.insert(slot).second) << "two rows write to one slot";
        cache_[slot] = {token, before, row.position, row.count, row.sequence_length};
        before = mix64(before ^ static_cast<uint64_t>(token));
        if (i >= end - row.drafts) continue;
      }
      Origin expected = alone[i];
      if (!config_.length_dependent_positions) expected.sequence_length = 0;
      Origin found = cache_[slot];
      if (!config_.length_dependent_positions) found.sequence_length = 0;
      ASSERT_TRUE(found == expected) << "token " << i << " of sequence " << row.sequence;
      if (i < row.position) before = mix64(before ^ static_cast<uint64_t>(client.tokens[i]));
    }
    if (row.logits == RowLogits::all && row.drafts == 0) {
      EXPECT_TRUE(client.wants_prompt_logits);
      EXPECT_EQ(row.position, client.prompt_logits);
      client.prompt_logits = end;
    }
    EXPECT_EQ(row.samples, end - row.drafts == std::ssize(client.tokens));
    if (!row.samples) return;
    if (client.wants_prompt_logits) {
      EXPECT_GE(client.prompt_logits, client.prompt);
    }
    NextTokens sampled;
    for (int64_t i = 0; i <= row.drafts; ++i) {
      const int64_t token = next_of(client);
      sampled.tokens.push_back(token);
      client.tokens.push_back(token);
      const auto length = std::ssize(client.tokens);
      client.done = length == client.ends_at || length == client.max_length;
      if (client.done || (i < row.drafts && token != step.tokens[i + 1])) break;
    }
    sampled.ends = client.done;
    next.push_back(std::move(sampled));
  }

  SchedulerConfig config_;
  Scheduler scheduler_;
  std::vector<Origin> cache_;
  std::map<int64_t, Client> clients_;
  int64_t next_ = 0;
};

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  int64_t between(int64_t first, int64_t last) { return first + below(last - first + 1); }
  bool one_in(int64_t n) { return below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

SchedulerConfig random_config(Random& random) {
  SchedulerConfig config;
  config.block_size = random.between(1, 3);
  config.chunk_size = config.block_size * random.between(1, 3);
  config.max_requests = random.between(1, 4);
  config.num_blocks = random.between(2, 12);
  config.prefix_caching = !random.one_in(4);
  if (random.one_in(8)) {
    config.length_dependent_positions = true;
    config.recompute_length = random.one_in(2) ? random.between(1, 6) : 0;
  } else if (random.one_in(3)) {
    config.num_speculative_tokens = random.between(1, 3);
  }
  const int64_t of_row = 1 + config.num_speculative_tokens;
  config.max_tokens =
      std::max(config.chunk_size, of_row) + (config.max_requests - 1) * of_row + random.below(4);
  return config;
}

void add_random(Random& random, Trace& trace, const SchedulerConfig& config) {
  const int64_t capacity = config.num_blocks * config.block_size;
  std::vector<int64_t> prompt(random.between(1, std::min<int64_t>(capacity, 8)));
  for (int64_t& token : prompt) token = random.one_in(4) ? 1 : 0;  // prompts begin alike
  const auto length = static_cast<int64_t>(prompt.size());
  const int64_t max_length = random.between(length + 1, std::min(capacity + 1, length + 6));
  const auto& clients = trace.clients();
  const bool shares = !clients.empty() && random.one_in(3);
  if (shares) {
    const auto& leader = clients.rbegin()->second;
    prompt.assign(leader.tokens.begin(), leader.tokens.begin() + leader.prompt);
  }
  const auto longest = std::min(capacity + 1, std::ssize(prompt) + 6);
  trace.add(prompt, shares ? longest : max_length,
            random.one_in(3) ? std::ssize(prompt) + 1 : std::ssize(prompt) + 4, random.one_in(5),
            shares ? std::optional(clients.rbegin()->first) : std::nullopt);
}

void disturb(Random& random, Trace& trace) {
  if (trace.clients().empty()) return;
  const int64_t id = random.below(std::ssize(trace.clients()));
  Trace::Client& client = trace.clients().at(id);
  if (client.done) return;
  switch (random.below(4)) {
    case 0:
      trace.scheduler().cancel(id);
      client.done = true;
      break;
    case 1:
      trace.scheduler().pause(id);
      client.paused = true;
      break;
    case 2:
      trace.scheduler().resume(id);
      client.paused = false;
      break;
    default:
      trace.scheduler().evict(id);
  }
}

TEST(Scheduler, HundredThousandRandomTracesLoseNoRequestAndNoBlock) {
  for (uint64_t seed = 0; seed < 100'000 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const SchedulerConfig config = random_config(random);
    Trace trace(config);
    const int64_t requests = random.between(1, 6);
    int64_t steps = 0;
    for (int64_t added = 0; added < requests || steps < 4; ++steps) {
      while (added < requests && random.one_in(2)) {
        add_random(random, trace, config);
        ++added;
      }
      if (random.one_in(4)) disturb(random, trace);
      trace.step();
      if (steps > 100) break;
    }
    for (auto& [id, client] : trace.clients()) {
      trace.scheduler().resume(id);
      client.paused = false;
    }
    // Each step computes a token at least; a sequence computes its tokens once, and again after it
    // was evicted by an older one.
    int64_t rest = 0;
    while (trace.step()) ASSERT_LT(++rest, 400) << "sequences do not end";
    for (const auto& [id, client] : trace.clients()) EXPECT_TRUE(client.done) << id;
    ASSERT_NO_THROW(trace.scheduler().blocks().check_conserved());
    EXPECT_EQ(trace.scheduler().blocks().available(), config.num_blocks);
  }
}

TEST(Scheduler, TheOldestSequenceComputesInEveryStep) {
  for (uint64_t seed = 0; seed < 2'000 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    SchedulerConfig config = random_config(random);
    config.num_speculative_tokens = 0;
    Scheduler scheduler(config);
    const int64_t capacity = config.num_blocks * config.block_size;
    std::map<int64_t, int64_t> left;  // tokens still to sample
    for (int64_t id = 0; id < 6; ++id) {
      const int64_t prompt = random.between(1, std::min<int64_t>(capacity, 6));
      const int64_t more = random.between(1, std::min<int64_t>(capacity + 1 - prompt, 5));
      scheduler.add(
          {.id = id, .prompt = std::vector<int64_t>(prompt, id), .max_length = prompt + more});
      left[id] = more;
    }
    while (scheduler.has_work()) {
      const auto rows = scheduler.next_step();
      ASSERT_FALSE(rows.empty());
      EXPECT_TRUE(std::ranges::any_of(
          rows, [&](const auto& row) { return row.sequence == left.begin()->first; }));
      std::vector<NextTokens> next;
      for (const ScheduledRow& row : rows) {
        if (!row.samples) continue;
        next.push_back({.tokens = {row.sequence}});
        if (--left.at(row.sequence) == 0) left.erase(row.sequence);
      }
      scheduler.complete(rows, next);
    }
    EXPECT_TRUE(left.empty());
  }
}

SchedulerConfig small() {
  return {.block_size = 2, .num_blocks = 16, .max_requests = 4, .max_tokens = 16, .chunk_size = 4};
}

// The positions and counts of the rows of a step, whose tokens are all 0.
std::vector<std::pair<int64_t, int64_t>> step_of(Scheduler& scheduler) {
  const auto rows = scheduler.next_step();
  std::vector<std::pair<int64_t, int64_t>> result;
  std::vector<NextTokens> next;
  for (const ScheduledRow& row : rows) {
    result.emplace_back(row.position, row.count);
    if (row.samples) next.push_back({.tokens = {0}});
  }
  scheduler.complete(rows, next);
  return result;
}

using Steps = std::vector<std::pair<int64_t, int64_t>>;

TEST(Scheduler, ChunksOfAPromptMixWithDecoding) {
  Scheduler scheduler(small());
  scheduler.add({.id = 0, .prompt = {1, 2}, .max_length = 8});
  EXPECT_EQ(step_of(scheduler), (Steps{{0, 2}}));
  scheduler.add({.id = 1, .prompt = std::vector<int64_t>(9, 3), .max_length = 12});
  EXPECT_EQ(step_of(scheduler), (Steps{{2, 1}, {0, 4}}));
  EXPECT_EQ(step_of(scheduler), (Steps{{3, 1}, {4, 4}}));
  EXPECT_EQ(step_of(scheduler), (Steps{{4, 1}, {8, 1}}));
  EXPECT_EQ(step_of(scheduler), (Steps{{5, 1}, {9, 1}}));
}

TEST(Scheduler, SamplesShareTheFullChunksOfTheirPrompt) {
  Scheduler scheduler(small());
  const std::vector<int64_t> prompt = {1, 2, 3, 4, 5, 6};
  scheduler.add({.id = 0, .prompt = prompt, .max_length = 9});
  scheduler.add({.id = 1, .prompt = prompt, .max_length = 9, .shares_prompt_of = 0});
  EXPECT_EQ(step_of(scheduler), (Steps{{0, 4}}));
  EXPECT_EQ(step_of(scheduler), (Steps{{4, 2}}));
  EXPECT_EQ(step_of(scheduler), (Steps{{6, 1}, {4, 2}}));
  EXPECT_EQ(scheduler.statistics().shared_tokens, 4);
}

TEST(Scheduler, AnEvictedSequenceFindsItsOwnBlocksAgain) {
  Scheduler scheduler(small());
  scheduler.add({.id = 0, .prompt = {1, 2, 3, 4, 5}, .max_length = 12});
  for (int i = 0; i < 5; ++i) step_of(scheduler);
  scheduler.evict(0);
  EXPECT_EQ(scheduler.blocks().available(), 16);
  EXPECT_EQ(step_of(scheduler), (Steps{{8, 1}}));
}

TEST(Scheduler, DraftsFollowWhatTheLastTokensMetBefore) {
  const std::vector<int64_t> tokens = {5, 1, 2, 3, 4, 9, 2, 3};
  EXPECT_EQ(propose_by_ngram(tokens, 3), (std::vector<int64_t>{4, 9, 2}));
  EXPECT_EQ(propose_by_ngram(tokens, 1), (std::vector<int64_t>{4}));
  EXPECT_TRUE(propose_by_ngram(tokens, 0).empty());
  EXPECT_TRUE(propose_by_ngram(std::span(tokens).first(7), 3).empty());
  SchedulerConfig config = small();
  config.num_speculative_tokens = 2;
  config.max_tokens = 16;
  Scheduler scheduler(config);
  scheduler.add({.id = 0, .prompt = {7, 8, 9, 7}, .max_length = 12});
  const auto step = [&](std::vector<int64_t> tokens) {
    const auto rows = scheduler.next_step();
    const std::pair result(rows.at(0).position, rows.at(0).count);
    const NextTokens next{.tokens = std::move(tokens)};
    scheduler.complete(rows, std::span(&next, 1));
    return result;
  };
  EXPECT_EQ(step({8}), (std::pair<int64_t, int64_t>{0, 4}));
  EXPECT_EQ(step({9, 7, 1}), (std::pair<int64_t, int64_t>{4, 3}));  // drafts 9 and 7 hold
  EXPECT_EQ(step({2}), (std::pair<int64_t, int64_t>{7, 1}));
  EXPECT_EQ(scheduler.statistics().drafted_tokens, 2);
  EXPECT_EQ(scheduler.statistics().accepted_tokens, 2);
}

TEST(Scheduler, BadSettingsAreRefusedWithNumbers) {
  SchedulerConfig config = small();
  config.chunk_size = 5;
  EXPECT_THAT([&] { Scheduler s(config); },
              ThrowsMessage<Error>(HasSubstr("a multiple of block_size 2, but got 5; 4 works")));
  config = small();
  config.max_tokens = 6;
  EXPECT_THAT([&] { Scheduler s(config); },
              ThrowsMessage<Error>(HasSubstr("at least 7, for a chunk of 4 tokens beside 3")));
  config = small();
  config.num_speculative_tokens = 1;
  config.length_dependent_positions = true;
  EXPECT_THAT([&] { Scheduler s(config); }, ThrowsMessage<Error>(HasSubstr("longrope")));
  config = small();
  config.num_blocks = 0;
  EXPECT_THROW(Scheduler s(config), Error);
  Scheduler scheduler(small());
  EXPECT_THAT(
      [&] { scheduler.add({.id = 0, .prompt = std::vector<int64_t>(30, 1), .max_length = 34}); },
      ThrowsMessage<Error>(HasSubstr("the 32 tokens of the key-value cache (16 blocks of 2), but "
                                     "got 30 + 4")));
  EXPECT_NO_THROW(
      scheduler.add({.id = 0, .prompt = std::vector<int64_t>(30, 1), .max_length = 33}));
  EXPECT_THROW(scheduler.add({.id = 0, .prompt = {1}, .max_length = 2}), Error);
  EXPECT_THROW(scheduler.add({.id = 1, .prompt = {}, .max_length = 2}), Error);
  EXPECT_THROW(scheduler.add({.id = 1, .prompt = {1, 2}, .max_length = 2}), Error);
}

}  // namespace
}  // namespace megatron
