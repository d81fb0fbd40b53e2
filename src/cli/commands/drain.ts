import type { Command } from '../args.ts'
import { rotation } from '../drain-command.ts'

const command: Command = rotation('drain', 'draining', 'Take an instance out of the rotation; it goes on serving')
export default command
