def search(notes, query):
    words = query.casefold().split()
    found = []
    for note in notes.all() if words else []:
        title, body = note["title"].casefold(), note["body"].casefold()
        counts = [3 * title.count(word) + body.count(word) for word in words]
        if all(counts):
            found.append((-sum(counts), note["id"]))
    return [id for _, id in sorted(found)]
