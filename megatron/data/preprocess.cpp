#include "megatron/data/preprocess.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/data/document_batch.h"
#include "megatron/data/document_encoder.h"
#include "megatron/data/indexed_dataset_builder.h"

namespace megatron {
namespace {

// A chunk on its way from the reader through a worker to the writer.
struct BatchJob {
  DocumentBatch batch;
  std::vector<EncodedDocuments> results;
  int64_t bytes_left_out = 0;
  std::exception_ptr error;  // of reading or encoding; rethrown when the writer reaches this chunk
  bool encoded = false;
};

// Hands chunks to workers and returns them in the order of the input. Holds at most `capacity`: the
// reader waits for the writer.
class OrderedQueue {
 public:
  explicit OrderedQueue(size_t capacity) : capacity_(capacity) {}

  // Returns false after give_up().
  bool push(std::shared_ptr<BatchJob> job) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return given_up_ || jobs_.size() < capacity_; });
    if (given_up_) return false;
    jobs_.push_back(std::move(job));
    changed_.notify_all();
    return true;
  }

  void end_input() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  void give_up() {
    const std::lock_guard lock(mutex_);
    given_up_ = true;
    changed_.notify_all();
  }

  // The next chunk to encode; null when there are no more.
  std::shared_ptr<BatchJob> take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return given_up_ || ended_ || taken_ < jobs_.size(); });
    if (given_up_ || taken_ == jobs_.size()) return nullptr;
    return jobs_[taken_++];
  }

  void finished(BatchJob& job) {
    const std::lock_guard lock(mutex_);
    job.encoded = true;
    changed_.notify_all();
  }

  // Waits for the oldest chunk to be encoded and removes it; null at the end.
  std::shared_ptr<BatchJob> pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return jobs_.empty() ? ended_ : jobs_.front()->encoded; });
    if (jobs_.empty()) return nullptr;
    std::shared_ptr<BatchJob> job = std::move(jobs_.front());
    jobs_.pop_front();
    --taken_;
    changed_.notify_all();
    return job;
  }

 private:
  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<BatchJob>> jobs_;
  size_t taken_ = 0;  // jobs_[0 .. taken_) are with workers or encoded
  bool ended_ = false;
  bool given_up_ = false;
};

void read_all(DocumentBatchReader& reader, OrderedQueue& queue) {
  while (true) {
    auto job = std::make_shared<BatchJob>();
    try {
      auto batch = reader.next();
      if (!batch) break;
      job->batch = std::move(*batch);
    } catch (...) {
      job->error = std::current_exception();
    }
    const bool failed = job->error != nullptr;
    if (!queue.push(std::move(job)) || failed) break;
  }
  queue.end_input();
}

void encode_all(const Tokenizer& tokenizer, const std::vector<std::string>& keys,
                OrderedQueue& queue) {
  DocumentEncoder encoder(tokenizer, keys);
  while (const auto job = queue.take()) {
    const int64_t before = encoder.bytes_left_out();
    if (job->error == nullptr) {
      try {
        job->results = encoder.encode(job->batch);
      } catch (...) {
        job->error = std::current_exception();
      }
    }
    job->bytes_left_out = encoder.bytes_left_out() - before;
    queue.finished(*job);
  }
}

// Stops and joins the threads, also when the writer throws.
class PreprocessThreads {
 public:
  explicit PreprocessThreads(OrderedQueue& queue) : queue_(queue) {}
  ~PreprocessThreads() {
    queue_.give_up();
    for (auto& thread : threads_) thread.join();
  }
  template <typename F>
  void start(F&& work) {
    threads_.emplace_back(std::forward<F>(work));
  }

 private:
  OrderedQueue& queue_;
  std::vector<std::thread> threads_;
};

// Writes the documents of one key.
class DocumentWriter {
 public:
  DocumentWriter(const std::string& prefix, const Tokenizer& tokenizer, bool append_eod)
      : builder_(prefix, token_type_for(tokenizer.vocab_size())) {
    if (append_eod) eod_ = tokenizer.eod();
  }

  void write(const EncodedDocuments& documents) {
    const std::span<const int64_t> ids(documents.ids);
    size_t begin = 0;
    for (const size_t end : documents.document_ends) {
      add(ids.subspan(begin, end - begin));
      end_document();
      begin = end;
    }
    add(ids.subspan(begin));
  }

  void finalize() { builder_.finalize(); }
  int64_t documents() const { return builder_.num_documents(); }
  int64_t tokens() const { return builder_.num_tokens(); }

 private:
  void add(std::span<const int64_t> ids) {
    builder_.add_tokens(ids);
    open_ = open_ || !ids.empty();
  }

  // As in Megatron, a document without tokens has no sequence and no end-of-document token.
  void end_document() {
    if (open_) {
      if (eod_) builder_.add_tokens(std::span<const int64_t>(&*eod_, 1));
      builder_.end_sequence();
    }
    builder_.end_document();
    open_ = false;
  }

  IndexedDatasetBuilder builder_;
  std::optional<int64_t> eod_;
  bool open_ = false;
};

void check_arguments(const PreprocessArguments& arguments, const Tokenizer& tokenizer) {
  check(!arguments.output_prefix.empty(), "Expected --output-prefix, but got none");
  check(!arguments.json_keys.empty(), "Expected at least one key, but got none; give --json-keys");
  const std::set<std::string> keys(arguments.json_keys.begin(), arguments.json_keys.end());
  check(keys.size() == arguments.json_keys.size(), "Expected each of --json-keys once, but got {}",
        fmt::join(arguments.json_keys, " "));
  check(arguments.workers >= 1 && arguments.workers <= 1024,
        "Expected 1 to 1024 workers, but got {}", arguments.workers);
  check(!arguments.append_eod || tokenizer.eod().has_value(),
        "Expected a tokenizer with an end-of-document token for --append-eod, but {} has none",
        tokenizer.identifiers());
}

}  // namespace

PreprocessResult preprocess(const PreprocessArguments& arguments, const Tokenizer& tokenizer,
                            const ProgressSink& progress) {
  check_arguments(arguments, tokenizer);
  DocumentBatchReader reader(
      {arguments.inputs, arguments.document_start, arguments.json_keys.size()}, tokenizer);
  PreprocessResult result;
  std::vector<std::unique_ptr<DocumentWriter>> writers;
  for (const auto& key : arguments.json_keys) {
    result.prefixes.push_back(fmt::format("{}_{}_document", arguments.output_prefix, key));
    writers.push_back(
        std::make_unique<DocumentWriter>(result.prefixes.back(), tokenizer, arguments.append_eod));
  }
  PreprocessProgress& totals = result.totals;
  totals.bytes_total = reader.bytes_total();

  const auto workers = static_cast<size_t>(arguments.workers);
  OrderedQueue queue(2 * workers + 2);
  {
    PreprocessThreads threads(queue);
    threads.start([&] { read_all(reader, queue); });
    for (size_t i = 0; i < workers; ++i) {
      threads.start([&] { encode_all(tokenizer, arguments.json_keys, queue); });
    }
    while (const auto job = queue.pop()) {
      if (job->error != nullptr) std::rethrow_exception(job->error);
      if (!job->batch.note.empty()) result.notes.push_back(job->batch.note);
      totals.tokens = 0;
      for (size_t key = 0; key < writers.size(); ++key) {
        writers[key]->write(job->results[key]);
        totals.tokens += writers[key]->tokens();
      }
      totals.documents = writers[0]->documents();
      totals.bytes_done += std::ssize(job->batch.text);
      totals.bytes_left_out += job->bytes_left_out;
      if (progress) progress(totals);
    }
  }
  check(totals.documents > 0, "Expected documents in {}, but found none",
        fmt::join(arguments.inputs, ", "));
  for (size_t key = 0; key < writers.size(); ++key) {
    check(writers[key]->tokens() > 0,
          "Expected text to train on under \"{}\" of {}, but got no tokens: {}",
          arguments.json_keys[key], fmt::join(arguments.inputs, ", "),
          totals.documents == 1 ? "one document, which is empty"
                                : fmt::format("{} documents, all of them empty", totals.documents));
  }
  for (auto& writer : writers) writer->finalize();
  return result;
}

}  // namespace megatron
