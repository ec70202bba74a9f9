"""One greedy request many times: is the answer always the same?"""
