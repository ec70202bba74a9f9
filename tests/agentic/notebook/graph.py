def reachable(links, start, depth):
    seen, nearest, found = {start}, [start], []
    for _ in range(depth):
        nearest = sorted({t for id in nearest for t in links.targets(id)} - seen)
        seen.update(nearest)
        found += nearest
    return found


def shortest(links, start, end):
    ways, seen = [[start]], {start}
    while ways:
        for way in ways:
            if way[-1] == end:
                return way
        longer = []
        for way in ways:
            for target in links.targets(way[-1]):
                if target not in seen:
                    seen.add(target)
                    longer.append([*way, target])
        ways = longer
    return None
