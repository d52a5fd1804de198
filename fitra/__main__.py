from fitra.cli import main

main()
