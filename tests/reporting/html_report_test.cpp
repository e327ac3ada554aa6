// The HTML report is well-formed and self-contained, and shows the run's history.
#include "megatron/reporting/html_report.h"

#include <cctype>
#include <cmath>
#include <gmock/gmock.h>
#include <set>

#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/reporting/svg_chart.h"

#include "tests/reporting/log_test_tools.h"

namespace megatron {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

RunHistory example_history(int64_t steps) {
  RunHistory history;
  history.add(RunStart{example_description(), "2026-01-02T03:04:05Z"});
  for (int64_t i = 1; i <= steps; ++i) history.add(example_step(i));
  history.add(EvaluationRecord{steps, "validation", 3.25, 1.875});
  return history;
}

// The first error in the markup; empty if tags are balanced, attributes quoted, and & and <
// escaped.
std::string first_fault(const std::string& page) {
  std::vector<std::string> open;
  const std::string doctype = "<!DOCTYPE html>";
  if (page.rfind(doctype, 0) != 0) return "no doctype";
  for (size_t at = doctype.size(); at < page.size(); ++at) {
    if (page[at] == '&' && (open.empty() || open.back() != "style")) {
      const auto end = page.find(';', at);
      if (end == page.npos || end - at > 7) return "bare &: " + page.substr(at, 20);
    }
    if (page[at] != '<') continue;
    const auto end = page.find('>', at);
    if (end == page.npos) return "tag without an end";
    std::string tag = page.substr(at + 1, end - at - 1);
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return "quotes: " + tag;
    at = end;
    if (tag.back() == '/') continue;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return "closed out of order: " + tag;
      open.pop_back();
    } else {
      if (std::isalpha(static_cast<unsigned char>(tag[0])) == 0) return "bare <: " + tag;
      open.push_back(tag.substr(0, tag.find_first_of(" \n")));
    }
  }
  return open.empty() ? "" : "not closed: " + open.back();
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++found;
  return found;
}

TEST(HtmlReport, IsWellFormedAndSelfContained) {
  for (const int64_t steps : {1, 2, 300, 20000}) {
    const auto page = html_report(example_history(steps));
    EXPECT_EQ(first_fault(page), "") << steps;
    EXPECT_EQ(count(page, "<svg "), 4u);
    for (const char* outside : {"http", "src=", "href=", "url(", "@import", "<script", "<link"}) {
      EXPECT_THAT(page, Not(HasSubstr(outside)));
    }
    EXPECT_THAT(page, Not(HasSubstr("nan")));
    EXPECT_LT(page.size(), 400'000u);
  }
}

TEST(HtmlReport, ShowsTheRun) {
  auto history = example_history(300);
  history.add(RunSummary{"bits per byte", {{"this model", "1.875"}, {"unigram", "2.35"}}});
  history.add(RunNote{300, "saved to checkpoints"});
  const auto page = html_report(history);
  for (const char* part :
       {"4 layers x 256, 4.2M parameters", "TP=2 x PP=2 x DP=1, 4 processes (gloo), 1 thread each",
        "<b>300 / 600</b>", "<b>3.2500</b><span>validation loss</span>",
        "<b>1.875</b><span>validation, bits per byte</span>",
        "<b>12.0k</b><span>tokens per second</span>", "0.15 (38% of peak)", "812 MiB",
        "<dt>hidden-size</dt><dd>256</dd>", "unigram", "2.35",
        "stage 1: layers 2-3, 2.1M parameters", "saved to checkpoints",
        "prefers-color-scheme: dark", "loss (nats per token)", "logarithmic steps",
        "step 300: 3.25"}) {
    EXPECT_THAT(page, HasSubstr(part));
  }
  EXPECT_THAT(page, Not(HasSubstr("resumed from a checkpoint")));
}

TEST(HtmlReport, ShowsEveryDepthOfMultiTokenPrediction) {
  RunHistory history = example_history(20);
  EXPECT_THAT(html_report(history), Not(HasSubstr("prediction 1")));
  for (StepRecord& record : history.steps) {
    record.mtp = {{.loss = 3, .tokens = 10, .acceptance_rate = 50}};
    if (record.iteration > 10) record.mtp.push_back({.loss = 4});
  }
  const std::string page = html_report(history);
  EXPECT_EQ(first_fault(page), "");
  EXPECT_EQ(count(page, "<h2>prediction 1: "), 2);
  EXPECT_EQ(count(page, "<h2>prediction 2: "), 2);
  EXPECT_THAT(page, Not(HasSubstr("nan")));
}

TEST(HtmlReport, ResumeMarksShowTheFullLayout) {
  auto history = example_history(300);
  auto second = example_description();
  second.first_iteration = 300;
  second.layout = "TP=2 x DP=2 (FSDP: no_shard, nothing is sharded), 4 ranks (gloo)";
  history.add(RunStart{second, "2026-01-02T04:04:05Z"});
  EXPECT_THAT(html_report(history),
              HasSubstr(">resumed: TP=2 x DP=2 (FSDP: no_shard, nothing is sharded)<"));
}

TEST(HtmlReport, MarksResumes) {
  auto history = example_history(300);
  auto second = example_description();
  second.first_iteration = 300;
  second.layout = "TP=2 x PP=1 x DP=2, 4 processes (gloo), 1 thread each";
  history.add(RunStart{second, "2026-01-02T04:04:05Z"});
  for (int64_t i = 301; i <= 600; ++i) history.add(example_step(i));
  const auto page = html_report(history);
  EXPECT_EQ(first_fault(page), "");
  EXPECT_EQ(count(page, ">resumed: TP=2 x PP=1 x DP=2<"), 2u);  // linear and logarithmic
  EXPECT_THAT(page, HasSubstr("<td>TP=2 x PP=2 x DP=1, 4 processes (gloo), 1 thread each</td>"
                              "<td>1 to 300</td>"));
  EXPECT_THAT(page, HasSubstr("1 thread each</td><td>301 to 600</td>"));
}

TEST(HtmlReport, EscapesText) {
  auto history = example_history(3);
  history.runs[0].description.title = "<script>alert(\"1\") & 'x'</script>";
  history.runs[0].description.layout = "a<b>&c";
  history.runs[0].description.settings = {{"<i>", "</dd>"}};
  history.add(RunNote{3, "</table>\x1b[0m"});
  const auto page = html_report(history);
  EXPECT_EQ(first_fault(page), "");
  EXPECT_THAT(page,
              HasSubstr("&lt;script&gt;alert(&quot;1&quot;) &amp; &#39;x&#39;&lt;/script&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("\x1b")));
}

TEST(HtmlReport, KeepsTheCurveReadableWithSpikesAndNan) {
  auto history = example_history(50);
  history.steps[20].loss = std::nan("");
  history.steps[21].grad_norm = INFINITY;
  const auto page = html_report(history);
  EXPECT_EQ(first_fault(page), "");
  EXPECT_THAT(page, HasSubstr("1 step with a loss that is not finite is not drawn."));
  EXPECT_THAT(page, Not(HasSubstr("inf\"")));

  // 40,000 points are thinned, but the spike stays.
  Chart chart;
  ChartLine line{"training", {}, false};
  for (int i = 0; i < 40000; ++i)
    line.points.push_back({static_cast<double>(i), i == 12345 ? 100.0 : 1.0});
  chart.lines.push_back(line);
  const auto svg = svg_chart(chart);
  EXPECT_LT(count(svg, "L"), 1700u);
  EXPECT_THAT(svg, HasSubstr(" 30.6L"));  // 100 of a range -3.95 to 104.95 over pixels 296 to 18
}

TEST(HtmlReport, SmoothingKeepsConstantsAndSkipsNan) {
  auto history = example_history(200);
  for (auto& record : history.steps) record.loss = 2.5;
  history.steps[0].loss = history.steps[100].loss = history.steps[199].loss = std::nan("");
  EXPECT_THAT(html_report(history), HasSubstr("<b>2.5000</b><span>training loss, smoothed</span>"));
}

TEST(HtmlReport, AnEmptyHistoryGivesAPage) {
  EXPECT_EQ(first_fault(html_report(RunHistory())), "");
  RunHistory started;
  started.add(RunStart{example_description(), "2026-01-02T03:04:05Z"});
  EXPECT_EQ(first_fault(html_report(started)), "");
}

TEST(HtmlReport, IsWrittenFromTheLogAlone) {
  TemporaryFolder folder;
  const auto log_path = (folder / "metrics.jsonl"), report_path = (folder / "made/report.html");
  {
    JsonLog log(log_path, RunStart{example_description(), "2026-01-02T03:04:05Z"});
    for (int64_t i = 1; i <= 20; ++i) log.step(example_step(i));
    log.evaluation({20, "validation", 3.25, 1.875});
  }
  write_html_report(log_path, report_path);
  EXPECT_EQ(text_of(report_path), html_report(example_history(20)));
  write_html_report(log_path, report_path);  // replaces the existing report
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator((folder / "made")), {}), 1);
  EXPECT_THROW(write_html_report((folder / "missing.jsonl"), report_path), Error);
}

TEST(HtmlReport, NeverReplacesTheLogOrADevice) {
  TemporaryFolder folder;
  const auto log_path = (folder / "metrics.jsonl");
  append_text(log_path, R"({"step":1,"loss":2,"grad_norm":3,"lr":4})"
                        "\n");
  const auto before = text_of(log_path);
  EXPECT_THROW(write_html_report(log_path, log_path), Error);
  EXPECT_THROW(write_html_report(log_path, (folder / "./metrics.jsonl")), Error);
  EXPECT_THROW(write_html_report(log_path, (folder / "metrics.events.jsonl")), Error);
  EXPECT_THROW(write_html_report(log_path, (folder / "")), Error);
  EXPECT_THROW(write_html_report(log_path, "/dev/full"), Error);
  EXPECT_EQ(text_of(log_path), before);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full"));
}

TEST(SvgChart, Ticks) {
  EXPECT_THAT(linear_ticks(0, 600, 6), ElementsAre(0, 100, 200, 300, 400, 500, 600));
  EXPECT_THAT(linear_ticks(-0.5, 1.2, 4), ElementsAre(-0.5, 0, 0.5, 1));
  EXPECT_TRUE(linear_ticks(1, 1, 5).empty());
  EXPECT_LE(linear_ticks(1, 1 + 1e-15, 5).size(), 100u);
  EXPECT_THAT(log_ticks(0.8, 60), ElementsAre(1, 2, 5, 10, 20, 50));
  EXPECT_THAT(log_ticks(0.8, 20000), ElementsAre(1, 10, 100, 1000, 10000));
}

}  // namespace
}  // namespace megatron
