def outline(notes):
    lines, everything = [], notes.all()
    for tag in sorted({tag for note in everything for tag in note["tags"]}):
        lines.append(f"# {tag}")
        lines += [f"- {note['id']} {note['title']}" for note in everything if tag in note["tags"]]
    untagged = [note for note in everything if not note["tags"]]
    if untagged:
        lines.append("# untagged")
        lines += [f"- {note['id']} {note['title']}" for note in untagged]
    return "\n".join(lines)
