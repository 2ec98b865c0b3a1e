"""python -m rait.cli"""

from rait.cli import main

main()
