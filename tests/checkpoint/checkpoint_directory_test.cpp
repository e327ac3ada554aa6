#include "megatron/checkpoint/checkpoint_directory.h"

#include <gtest/gtest.h>

namespace megatron {
namespace {

namespace fs = std::filesystem;

class SameFolder : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/folder-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    before_ = fs::current_path();
    fs::current_path(root_);
  }
  void TearDown() override {
    fs::current_path(before_);
    fs::remove_all(root_);
  }
  fs::path root_, before_;
};

TEST_F(SameFolder, MayBeMissing) {
  EXPECT_TRUE(is_same_folder("new", "new"));
  EXPECT_TRUE(is_same_folder("new", "new/"));
  EXPECT_TRUE(is_same_folder("./new", "new/"));
  EXPECT_TRUE(is_same_folder("new", root_ / "new"));
  EXPECT_TRUE(is_same_folder("a/../new", "new"));
  EXPECT_FALSE(is_same_folder("new", "old"));
  EXPECT_FALSE(is_same_folder("new", "new/more"));
}

TEST_F(SameFolder, MayExist) {
  fs::create_directory("new");
  EXPECT_TRUE(is_same_folder("new", "new/"));
  EXPECT_TRUE(is_same_folder("new/", root_ / "new"));
  EXPECT_FALSE(is_same_folder("new", root_));
}

TEST_F(SameFolder, MayBeASymbolicLink) {
  fs::create_directory("real");
  fs::create_directory_symlink("real", "link");
  EXPECT_TRUE(is_same_folder("link", "real/"));
  EXPECT_TRUE(is_same_folder("link/new", "real/new/"));
}

TEST_F(SameFolder, IsNotAnEmptyPath) {
  EXPECT_FALSE(is_same_folder("", ""));
  EXPECT_FALSE(is_same_folder("new", ""));
}

}  // namespace
}  // namespace megatron
