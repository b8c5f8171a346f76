"""The style sheet of the pages."""

STYLE = """
* { box-sizing: border-box; margin: 0 }
body { background: var(--canvas); color: var(--text); width: var(--width); padding: 0 var(--edge);
  font: 14px/1.57 Inter, "Liberation Sans", Arial, sans-serif }
header { height: var(--top); overflow: hidden }
nav { height: 44px; display: flex; align-items: center; justify-content: space-between; font-size: 16px;
  border-bottom: 1px solid var(--border); margin-bottom: 8px }
time { font-size: 12px; border: 1px solid var(--border); padding: 3px 10px; background: var(--panel) }
header span { display: inline-flex; font-size: 12px; line-height: 28px; margin-right: 8px; height: 30px;
  border: 1px solid var(--border); border-radius: 2px; background: var(--panel) }
header label { padding: 0 8px; font-weight: 500; border-right: 1px solid var(--border) }
header b { padding: 0 8px; font-weight: 400 }
.links { margin-top: 6px; display: flex; gap: 6px; justify-content: flex-end }
.links a { font-size: 12px; line-height: 26px; padding: 0 10px; background: var(--panel);
  border: 1px solid var(--border) }
main { position: relative }
h2 { position: absolute; font-size: 16px; font-weight: 500; line-height: 30px }
section { position: absolute; background: var(--panel); border: 1px solid var(--border); border-radius: 2px;
  overflow: hidden }
h3 { height: 32px; line-height: 32px; font-size: 14px; font-weight: 500; padding: 0 8px; white-space: nowrap;
  overflow: hidden; text-overflow: ellipsis }
h3 i { font: italic 600 9px/12px Georgia, serif; color: var(--faint); border: 1px solid var(--faint);
  border-radius: 50%; display: inline-block; width: 13px; text-align: center; vertical-align: middle }
section p { font-size: 11px; line-height: 16px; color: var(--faint); padding: 0 8px }
.inner { padding: 8px }
.nothing { position: absolute; inset: 32px 0 0; display: flex; align-items: center; justify-content: center;
  font-size: 18px; color: var(--faint) }
svg { display: block; overflow: visible }
svg .axes text, svg text.axes { font-size: 12px; fill: var(--text); stroke: none }
.legend { overflow: hidden; font-size: 12px; line-height: 20px; white-space: nowrap; display: flex;
  flex-wrap: wrap; align-content: flex-start }
.legend span { padding-right: 10px }
.legend i { display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: 8px;
  vertical-align: middle }
.table { overflow: hidden }
.row { display: flex; height: 36px }
.head, .cell { flex: none; padding: 6px; line-height: 22px; height: 36px; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis; border-bottom: 1px solid var(--border) }
.head { font-weight: 500; color: var(--link) }
.right { text-align: right }
.cell a { text-decoration: underline }
.choice { font-size: 14px; line-height: 30px; height: 32px; margin-top: 8px; padding: 0 8px;
  border: 1px solid var(--border) }
.stats { display: flex; flex-wrap: wrap; gap: 8px }
.stat { display: flex; align-items: center; justify-content: center; line-height: 1.2; overflow: hidden;
  white-space: nowrap }
.stat b { font-weight: 500 }
.stat.column { flex-direction: column }
.stat.named { justify-content: space-between }
.stat.column.named { align-items: flex-start; justify-content: center }
.bars { display: flex; flex-direction: column; overflow: hidden; gap: 8px }
.bar { display: flex; flex: none; align-items: center; overflow: hidden }
.bar.above { flex-direction: column; align-items: stretch }
.bar .name { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; line-height: 1.5; flex: none }
.track { display: flex; flex: 1 1 auto; align-items: stretch; width: 100% }
.track div { border-radius: 2px; flex: none }
.track i { flex: 1 1 auto; background: var(--raised) }
.track b { flex: none; font-weight: 400; display: flex; align-items: center; justify-content: flex-end;
  padding: 0 10px; white-space: nowrap }
"""
