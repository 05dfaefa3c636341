//! A page of hostile texts.

use super::*;

#[test]
fn every_text_on_the_page_is_escaped() {
    let evil = "<script>alert('x')</script>\"&\u{0}";
    let text = || evil.to_owned();
    let report = Report {
        title: text(),
        verdict: Verdict { good: false, line: text(), items: vec![text()] },
        facts: vec![(text(), text())],
        figures: vec![(text(), text())],
        plots: Vec::new(),
        tables: vec![TextTable {
            title: text(),
            note: text(),
            header: vec!["a", "b"],
            rows: vec![vec![text(), "1".to_owned(), text()]],
        }],
        scenario: Some(text()),
    };
    let page = report.html();
    assert!(!page.contains("<script"));
    assert!(!page.contains('\u{0}'));
    assert_eq!(page.matches("&lt;script&gt;").count(), 13);
    assert!(page.contains("<td class=\"right\">1</td>"));
}

#[test]
fn the_page_needs_nothing_else() {
    let sheet = style_sheet();
    assert!(!sheet.contains("url(") && !sheet.contains("@import") && !sheet.contains("</"));
    assert!(sheet.contains(".plot [fill=\"#FFFFFF\"]{fill:var(--paper)}"));
}
