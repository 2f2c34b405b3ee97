// Icons that are not needed at first sight; the others are in icons.svg.
document.querySelector(".sprite").insertAdjacentHTML("beforeend", `
<symbol id="i-check" viewBox="0 0 24 24"><path d="m5.5 12.5 4.5 4.5 8.5-9.5"/></symbol>
<symbol id="i-similar" viewBox="0 0 24 24"><rect x="3.5" y="3.5" width="11" height="11" rx="2.5"/><path d="M18 9.5h.5a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-7a2 2 0 0 1-2-2V18"/></symbol>
<symbol id="i-left" viewBox="0 0 24 24"><path d="m14.5 5.5-6.5 6.5 6.5 6.5"/></symbol>
<symbol id="i-right" viewBox="0 0 24 24"><path d="m9.5 5.5 6.5 6.5-6.5 6.5"/></symbol>
<symbol id="i-crop" viewBox="0 0 24 24"><path d="M7 3v14h14M3 7h14v14"/></symbol>
<symbol id="i-info" viewBox="0 0 24 24"><circle cx="12" cy="12" r="8.5"/><path d="M12 11v5.5M12 7.7v.1"/></symbol>
<symbol id="i-open" viewBox="0 0 24 24"><path d="M13.5 4.5h6v6M19 5l-8 8M10 5H6.5a2 2 0 0 0-2 2v10.5a2 2 0 0 0 2 2H17a2 2 0 0 0 2-2V14"/></symbol>
<symbol id="i-down" viewBox="0 0 24 24"><path d="M12 4v11m-4.5-4.5L12 15l4.5-4.5M5 19.5h14"/></symbol>
<symbol id="i-more" viewBox="0 0 24 24"><path d="M7.5 10.5v9h-3v-9h3l4-7c1.7 0 2.5 1.2 2.2 2.7L13 9.5h5a2 2 0 0 1 2 2.4l-1.2 6a2 2 0 0 1-2 1.6H7.5"/></symbol>
<symbol id="i-less" viewBox="0 0 24 24"><path d="M16.5 13.5v-9h3v9h-3l-4 7c-1.7 0-2.5-1.2-2.2-2.7l.7-3.300H6a2 2 0 0 1-2-2.400l1.2-6a2 2 0 0 1 2-1.600h9.300"/></symbol>
<symbol id="i-copy" viewBox="0 0 24 24"><rect x="8.5" y="8.5" width="11.5" height="11.5" rx="2.5"/><path d="M15.5 5.5a2 2 0 0 0-2-1.5H6.5A2.5 2.5 0 0 0 4 6.5v7a2 2 0 0 0 1.5 2"/></symbol>
<symbol id="i-heart" viewBox="0 0 24 24"><path d="M12 19.5C5.5 15.4 3.5 12 3.5 9A4.5 4.5 0 0 1 12 7a4.5 4.5 0 0 1 8.5 2c0 3-2 6.4-8.5 10.5z"/></symbol>
<symbol id="i-collection" viewBox="0 0 24 24"><rect x="4.5" y="9.5" width="15" height="10" rx="2.5"/><path d="M7 6.5h10M9 3.5h6"/></symbol>
<symbol id="i-fit" viewBox="0 0 24 24"><path d="M8.5 4.5h-4v4M15.5 4.5h4v4M8.5 19.5h-4v-4M15.5 19.5h4v-4"/></symbol>
<symbol id="i-play" viewBox="0 0 24 24"><path d="M8 5.5v13l10.5-6.5z"/></symbol>
<symbol id="i-folder" viewBox="0 0 24 24"><path d="M4 7.5a2 2 0 0 1 2-2h3.5l2 2.5H18a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2z"/></symbol>
`);
