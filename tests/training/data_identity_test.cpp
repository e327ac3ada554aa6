#include "megatron/training/data_identity.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/data/mock_dataset.h"

namespace megatron {
namespace {

DataIdentity example_identity() {
  DataIdentity identity;
  identity.path = "/data/a";
  identity.documents = 40;
  identity.content = "0123";
  identity.order = "4567";
  identity.split = "969,30,1";
  identity.seed = 1234;
  identity.sequence_length = 16;
  identity.train_iters = 8;
  return identity;
}

TEST(DataIdentity, ReadsBackFromJson) {
  const DataIdentity stored = example_identity();
  const DataIdentity back = data_identity_from_json(to_json(stored));
  EXPECT_EQ(to_json(back), to_json(stored));
  EXPECT_EQ(explain_data_change(stored, back, 8), std::nullopt);
}

TEST(DataIdentity, DiffersWithTokensAndLengths) {
  const DataIdentity a = identify_data(MockLowLevelDataset(96, 95)),
                     same = identify_data(MockLowLevelDataset(96, 95)),
                     other = identify_data(MockLowLevelDataset(95, 94));
  EXPECT_EQ(a.documents, MockLowLevelDataset::kDocuments);
  EXPECT_EQ(a.content, same.content);
  EXPECT_NE(a.content, other.content);
}

TEST(DataIdentity, NothingIsReportedWithoutAStoredIdentity) {
  EXPECT_EQ(explain_data_change({}, example_identity(), 8), std::nullopt);
}

TEST(DataIdentity, MoreIterationsAreReportedOnlyWhereTheyChangeTheOrder) {
  const DataIdentity stored = example_identity();
  DataIdentity current = stored;
  current.train_iters = 16;
  EXPECT_EQ(explain_data_change(stored, current, 8), std::nullopt);
  // Other data has another order in any case.
  DataIdentity other = current;
  other.content = "cdef";
  other.order = "0246";
  EXPECT_EQ(explain_data_change(stored, other, 8),
            "resuming with other training data: the files hold other tokens; samples 1 to 8 of it "
            "are skipped: training goes on at sample 9 (--finetune starts at sample 1)");
  current.order = "89ab";
  EXPECT_EQ(
      explain_data_change(stored, current, 8),
      "resuming with the training samples in another order: train_iters was 8, is 16; samples "
      "1 to 8 of it are skipped: training goes on at sample 9 (--finetune starts at sample 1)");
}

}  // namespace
}  // namespace megatron
