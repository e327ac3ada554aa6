// The style sheet of the HTML report, with all of its colours.
#pragma once

namespace megatron {

inline constexpr const char* kReportStyle = R"(
:root { color-scheme: light dark;
  --page: #f6f7f9; --panel: #ffffff; --text: #1d2330; --muted: #667085; --rule: #e2e6ec;
  --training: #9db8e8; --smooth: #2457c5; --validation: #d9531e; --resume: #8b5cf6; }
@media (prefers-color-scheme: dark) { :root {
  --page: #12151b; --panel: #1a1f28; --text: #e6e9ef; --muted: #98a2b3; --rule: #2d3440;
  --training: #3f5d96; --smooth: #7aa7ff; --validation: #ff9466; --resume: #b79bff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { font-size: 26px; margin: 0; line-height: 1.25; }
h2 { font-size: 16px; margin: 0 0 10px; }
p { margin: 4px 0; }
.muted { color: var(--muted); }
section { background: var(--panel); border: 1px solid var(--rule); border-radius: 10px;
  padding: 18px 20px; margin-top: 18px; overflow-x: auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(172px, 1fr)); gap: 12px;
  margin-top: 18px; }
.card { background: var(--panel); border: 1px solid var(--rule); border-radius: 10px;
  padding: 12px 16px; }
.card b { display: block; font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; }
.card span { color: var(--muted); font-size: 13px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 18px; }
.pair section { min-width: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 18px 4px 0; vertical-align: top; }
th { color: var(--muted); font-weight: 500; font-size: 13px; }
tr + tr td { border-top: 1px solid var(--rule); }
td.number, th.number { text-align: right; }
th, .runs td { white-space: nowrap; }
.runs td:nth-child(2) { white-space: normal; }
.settings { columns: 2 320px; column-gap: 40px; margin: 0; }
.settings div { display: flex; justify-content: space-between; gap: 16px; break-inside: avoid;
  border-bottom: 1px solid var(--rule); padding: 3px 0; }
.settings dt { color: var(--muted); }
.settings dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 12px; fill: var(--muted); }
svg .label { font-size: 13px; }
svg .mark-label { fill: var(--resume); }
svg .grid { stroke: var(--rule); }
svg .frame { stroke: var(--muted); }
svg .mark { stroke: var(--resume); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg path { fill: none; stroke-linejoin: round; }
svg path.training { stroke: var(--training); stroke-width: 1; }
svg path.smooth { stroke: var(--smooth); stroke-width: 2.2; }
svg path.validation { stroke: var(--validation); stroke-width: 1.2; stroke-dasharray: 2 3; }
svg circle.validation { fill: var(--validation); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; align-items: center; margin-bottom: 8px;
  font-size: 13px; color: var(--muted); }
.legend i { display: inline-block; width: 18px; height: 3px; border-radius: 2px; margin-right: 7px;
  vertical-align: middle; }
.legend label { margin-left: auto; }
#log-steps { vertical-align: middle; }
.curve .log, .curve:has(#log-steps:checked) .linear { display: none; }
.curve:has(#log-steps:checked) .log { display: block; }
)";

}  // namespace megatron
