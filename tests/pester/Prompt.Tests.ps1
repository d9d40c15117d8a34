# What an admin types: pipes between the nouns, rows of files, lengths of time, ages, and what is shown.
BeforeAll {
    . "$PSScriptRoot/Shared.ps1"
    Import-Module $Module
    function ConvertTo-Dead($Value) { [System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize($Value)) }
}

Describe 'Pipes between the nouns' {
    BeforeAll {
        $env:VMATRIX_POOL = New-TestPool
        $script:Finance, $script:Sports = New-VMatrixServer FINANCE, SPORTS
        $null = New-VMatrixServer SPORTS
        $script:Plan = New-VMatrixPlan
        $null = Move-VMatrixServer $Finance -Destination host1 -PassThru
        $null = Move-VMatrixServer $Sports -Destination host2 -PassThru
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'make servers of several services' {
        $Finance.Service, $Sports.Service | Should -Be 'FINANCE', 'SPORTS'
    }

    It 'show <Name>, live and from elsewhere' -ForEach @(
        @{ Name = 'the servers of a host'; Give = { Get-VMatrixHost host1 }; Take = { $_ | Get-VMatrixServer | ForEach-Object Name }; Want = 'FINANCE-1' }
        @{ Name = 'the servers of two hosts, each once'; Give = { Get-VMatrixHost host1, host2 }; Take = { $_ | Get-VMatrixServer | ForEach-Object Name | Sort-Object }; Want = 'FINANCE-1', 'SPORTS-1' }
        @{ Name = 'the servers of a service'; Give = { Get-VMatrixService SPORTS }; Take = { $_ | Get-VMatrixServer | ForEach-Object Name | Sort-Object }; Want = 'SPORTS-1', 'SPORTS-2' }
        @{ Name = 'a server again'; Give = { $Finance }; Take = { $_ | Get-VMatrixServer | ForEach-Object { "$($_.Stage)" } }; Want = 'Matrix' }
        @{ Name = 'the server of a move'; Give = { Get-VMatrixMove SPORTS-1 -Newest 1 }; Take = { $_ | Get-VMatrixServer | ForEach-Object Name }; Want = 'SPORTS-1' }
        @{ Name = 'the moves of a server'; Give = { Get-VMatrixServer FINANCE-1 }; Take = { $_ | Get-VMatrixMove | ForEach-Object { "$($_.Move.Kind)" } }; Want = 'Wake', 'Create' }
        @{ Name = 'the moves to a host'; Give = { Get-VMatrixHost host2 }; Take = { $_ | Get-VMatrixMove | ForEach-Object ServerName }; Want = 'SPORTS-1' }
        @{ Name = 'the moves of a service'; Give = { Get-VMatrixService FINANCE }; Take = { @($_ | Get-VMatrixMove).Count }; Want = 2 }
        @{ Name = 'the host of a server'; Give = { Get-VMatrixServer SPORTS-1 }; Take = { $_ | Get-VMatrixHost | ForEach-Object Name }; Want = 'host2' }
        @{ Name = 'no host for a server of the nest'; Give = { Get-VMatrixServer SPORTS-2 }; Take = { @($_ | Get-VMatrixHost).Count }; Want = 0 }
        @{ Name = 'the service of a server'; Give = { Get-VMatrixServer SPORTS-1 }; Take = { $_ | Get-VMatrixService | ForEach-Object Name }; Want = 'SPORTS' }
        @{ Name = 'no moves for a plan that was not carried out'; Give = { $Plan }; Take = { @($_ | Get-VMatrixMove).Count }; Want = 0 }
    ) {
        $given = @(& $Give)
        $given.Count | Should -BeGreaterThan 0
        foreach ($set in $given, @($given | ForEach-Object { ConvertTo-Dead $_ })) {
            & ([scriptblock]::Create($Take.ToString().Replace('$_ | Get', '$set | Get'))) | Should -Be $Want
        }
    }

    It 'name a server by the machine that it is, as a hypervisor''s own listing shows it' {
        $machine = [pscustomobject]@{ PSTypeName = 'Deserialized.Microsoft.HyperV.PowerShell.VirtualMachine'; Name = 'other'; Id = [guid]::NewGuid(); VMId = $Finance.MachineId; State = 'Running' }
        ($machine | Move-VMatrixServer -Destination host3 -PassThru).Id | Should -Be $Finance.Id
        (Get-VMatrixServer FINANCE-1).Host | Should -Be 'host3'
        $machine.VMId = [guid]::NewGuid()
        $machine | Move-VMatrixServer -Destination host1 -ErrorAction SilentlyContinue -ErrorVariable complaint
        $complaint[0].FullyQualifiedErrorId | Should -BeLike 'ServerNotFound,*'
    }
}

Describe 'Rows of a file' {
    BeforeAll {
        $env:VMATRIX_POOL = New-TestPool
        $null = New-VMatrixServer FINANCE -Count 2
        $null = New-VMatrixServer SPORTS -Count 2
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'say for each server which stage and which host it goes to; an empty cell says nothing' {
        Set-Content "$TestDrive/moves.csv" 'Name,Stage,Destination', 'FINANCE-1,Matrix,host2', 'FINANCE-2,Matrix,', 'SPORTS-1,,chamber1', 'SPORTS-2,,'
        $moved = Import-Csv "$TestDrive/moves.csv" | Move-VMatrixServer -PassThru -ErrorAction SilentlyContinue -ErrorVariable complaints
        $moved | ForEach-Object { "$($_.Name) $($_.Stage)" } | Sort-Object | Should -Be 'FINANCE-1 Matrix', 'FINANCE-2 Matrix', 'SPORTS-1 Chamber'
        ($moved | Where-Object Name -EQ 'FINANCE-1').Host | Should -Be 'host2'
        $complaints.FullyQualifiedErrorId | Should -Be 'NothingToMove,VMatrix.Commands.MoveVMatrixServerCommand'
    }

    It 'give way to what the command line says' {
        [pscustomobject]@{ Name = 'SPORTS-2'; Stage = 'Matrix'; Destination = 'host1' } | Move-VMatrixServer -Stage Chamber -Destination chamber1
        (Get-VMatrixServer SPORTS-2).Host | Should -Be 'chamber1'
    }

    It 'are not what a server''s own object says of where it is' {
        $server = Get-VMatrixServer FINANCE-1
        foreach ($given in $server, (ConvertTo-Dead $server)) {
            $given | Move-VMatrixServer -ErrorAction SilentlyContinue -ErrorVariable complaints
            $complaints[0].FullyQualifiedErrorId | Should -BeLike 'NothingToMove,*'
        }
        Move-VMatrixServer FINANCE-1 -Stage Nest
        (Get-VMatrixServer FINANCE-1 | Move-VMatrixServer -Destination host3 -PassThru).Host | Should -Be 'host3'
    }
}

Describe 'The pool of an object' {
    BeforeAll {
        $script:One, $script:Two = (New-TestPool), (New-TestPool)
        $env:VMATRIX_POOL = $One
        $null = New-VMatrixServer FINANCE -Name mine
        $null = New-VMatrixServer FINANCE -Name other -Pool $Two
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'is on what <_> returns' -ForEach 'Get-VMatrixPool', 'Get-VMatrixHost', 'Get-VMatrixService', 'Get-VMatrixServer', 'Get-VMatrixMove', 'New-VMatrixPlan', 'Get-VMatrixPlan' {
        $found = @(& $_ -Pool $Two)
        $found.Count | Should -BeGreaterThan 0
        $found.Pool | Select-Object -Unique | Should -Be $Two
        (ConvertTo-Dead $found[0]).Pool | Should -Be $Two
    }

    It 'wins over the environment''s, and objects of two pools go to their own' {
        $moved = (Get-VMatrixServer other -Pool $Two), (ConvertTo-Dead (Get-VMatrixServer mine)) | Move-VMatrixServer -Stage Matrix -PassThru
        $moved | ForEach-Object { "$($_.Name) $($_.Pool)" } | Sort-Object | Should -Be "mine $One", "other $Two"
        Get-VMatrixHost -Pool $Two | Get-VMatrixServer | ForEach-Object Name | Should -Be 'other'
        $null = Get-VMatrixService FINANCE -Pool $Two | Set-VMatrixService -Servers 2
        (Get-VMatrixService FINANCE -Pool $Two).Pinned | Should -Be 2
        (Get-VMatrixService FINANCE).Pinned | Should -BeNullOrEmpty
        (Get-VMatrixHost host3 -Pool $Two | Suspend-VMatrixHost -PassThru).Pool | Should -Be $Two
        (Get-VMatrixHost host3).Suspended | Should -BeFalse
        New-VMatrixPlan -Pool $Two | Invoke-VMatrixSwitch -PassThru | ForEach-Object Pool | Select-Object -Unique | Should -Be $Two
    }

    It 'names the pool to change without any other word' {
        $server = Get-VMatrixServer other -Pool $Two
        $env:VMATRIX_POOL = $null
        try { (Move-VMatrixServer $server -Stage Nest -PassThru).Stage | Should -Be 'Nest' }
        finally { $env:VMATRIX_POOL = $One }
    }

    It 'gives way to -Pool' {
        Get-VMatrixServer other -Pool $Two | Move-VMatrixServer -Stage Matrix -Pool $One -ErrorAction SilentlyContinue -ErrorVariable complaints
        $complaints[0].FullyQualifiedErrorId | Should -BeLike 'ServerNotFound,*'
    }
}

Describe 'Lengths of time and moments' {
    BeforeAll {
        $env:VMATRIX_POOL = New-TestPool
        $null = New-VMatrixServer FINANCE
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It '<Given> is <Want>' -ForEach @(
        @{ Given = '4h'; Want = 14400 }
        @{ Given = '30m'; Want = 1800 }
        @{ Given = '1.5h'; Want = 5400 }
        @{ Given = '00:10:00'; Want = 600 }
        @{ Given = [timespan]::FromMinutes(2); Want = 120 }
    ) {
        $stage = if ((Get-VMatrixServer FINANCE-1).Stage -eq 'Nest') { 'Matrix' } else { 'Nest' }
        $moved = Move-VMatrixServer FINANCE-1 -Stage $stage -HoldFor $Given -PassThru
        ($moved.HeldUntil - $moved.ChangedAt).TotalSeconds | Should -BeGreaterThan ($Want - 61)
        ($moved.HeldUntil - $moved.ChangedAt).TotalSeconds | Should -BeLessThan ($Want + 61)
    }

    It '<Given> is refused by every such parameter' -ForEach @{ Given = 30 }, @{ Given = '30' }, @{ Given = 1.5 }, @{ Given = '30x' }, @{ Given = '-1h' }, @{ Given = [timespan]::FromSeconds(-1) } {
        $stage = (Get-VMatrixServer FINANCE-1).Stage
        foreach ($call in { Move-VMatrixServer FINANCE-1 -Stage Chamber -HoldFor $Given }, { Invoke-VMatrixSwitch -Continuous -Interval $Given }, { Update-VMatrixService FINANCE -Watch $Given }, { Invoke-VMatrixSimulation none.csv -Interval $Given }) {
            $call | Should -Throw -ErrorId 'ParameterArgumentTransformationError,*' -ExpectedMessage '*is not a length of time*'
        }
        (Get-VMatrixServer FINANCE-1).Stage | Should -Be $stage
    }

    It 'every parameter that is a length of time takes them' {
        $found = foreach ($command in Get-Command -Module VMatrix) {
            foreach ($parameter in $command.Parameters.Values | Where-Object { $_.ParameterType -in [timespan], [Nullable[timespan]] }) {
                "$command -$($parameter.Name) $(@($parameter.Attributes | Where-Object { $_.TypeId.Name -eq 'DurationAttribute' }).Count)"
            }
        }
        $found.Count | Should -BeGreaterThan 3
        $found | Should -Not -Match ' 0$'
    }

    It 'ages are computed from <_>' -ForEach 'Get-VMatrixServer', 'Get-VMatrixMove', 'New-VMatrixPlan' {
        $object = @(& $_)[0]
        $property = @($object.PSObject.Properties | Where-Object { $_.Value -is [datetime] })[0].Name
        $property | Should -Not -BeNullOrEmpty
        (Get-Date) - $object.$property | Should -BeOfType [timespan]
        ($object | Select-Object @{ Name = 'Age'; Expression = { (Get-Date) - $_.$property } }).Age | Should -BeOfType [timespan]
        (Get-Date) - (ConvertTo-Dead $object).$property | Should -BeOfType [timespan]
        $object.$property.Kind | Should -Be 'Local'
        $list = $object | Format-List | Out-String -Width 200
        $list | Should -BeLike "*$('{0:yyyy-MM-dd HH:mm:ss}' -f $object.$property)*"
        $list | Should -Not -Match '[+-]\d\d:00\b|\dZ'
    }

    It 'moves and overrides carry the user''s name' {
        (Get-VMatrixMove -Newest 1).By | Should -BeLike "*(process $PID of $([Environment]::UserName) on *"
        (Set-VMatrixService FINANCE 1 -Until (Get-Date).AddHours(1) -PassThru).PinnedBy | Should -BeLike "$([Environment]::UserName) (process $PID on *"
        (Suspend-VMatrixHost host3 -PassThru).SuspendedBy | Should -BeLike "$([Environment]::UserName) (process $PID on *"
    }
}

Describe 'What is shown' {
    BeforeAll {
        $file = New-TestPool
        (Get-Content -Raw $file) -replace '(name: SPORTS, least: 1), most: 4', '$1' | Set-Content $file
        $env:VMATRIX_POOL = $file
        Invoke-VMatrixSwitch
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'is the name in a text' {
        "$(Get-VMatrixServer FINANCE-1)", "$(Get-VMatrixHost host1)", "$(Get-VMatrixService SPORTS)", "$(Get-VMatrixPool)" | Should -Be 'FINANCE-1', 'host1', 'SPORTS', 'test'
        "$((New-VMatrixPlan).Decisions[0])" | Should -BeLike 'FINANCE: has 1*'
        "$((Get-VMatrixMove FINANCE-1)[0])" | Should -BeLike 'Wake FINANCE-1, Nest -> Matrix on host*: Done'
    }

    It 'has no limit where there is none' {
        (Get-VMatrixService SPORTS).Most | Should -BeNullOrEmpty
        (Get-VMatrixService SPORTS).Spec.Most | Should -BeNullOrEmpty
        (Get-VMatrixService FINANCE).Most | Should -Be 4
    }

    It 'is no record, no big number and no list of numbers in full: <_>' -ForEach 'Get-VMatrixPool', 'Get-VMatrixHost', 'Get-VMatrixService', 'Get-VMatrixServer', 'Get-VMatrixMove', 'New-VMatrixPlan', 'Get-VMatrixPlan' {
        $text = & $_ | Select-Object -First 2 | Format-List * | Out-String -Width 500
        $text | Should -Not -Match '2147483647|\w+ \{ \w+ = |\{\d+, \d+'
        $spec = & $_ | Select-Object -First 1 | ForEach-Object Spec | Format-List * | Out-String -Width 500
        "$spec" | Should -Not -Match '2147483647|\w+ \{ \w+ = '
    }

    It 'counts servers by stage in words' {
        "$((Get-VMatrixPool).ServersByStage)" | Should -Be '0 Nest, 0 Chamber, 2 Matrix, 0 Disposed'
    }

    It 'is one progress bar, with the step' {
        $slow = New-TestPool -Simulation 'bootTime: 2s', 'wakeTime: 2s'
        $shell = [powershell]::Create()
        try {
            $null = $shell.AddScript("Import-Module '$Module'; `$ProgressPreference = 'Continue'; Invoke-VMatrixSwitch -Pool '$slow'").Invoke()
            $bars = $shell.Streams.Progress | Where-Object Activity -EQ 'Invoke-VMatrixSwitch'
            $bars.ActivityId | Select-Object -Unique | Should -Be 1
            ($bars.StatusDescription -match '^\d of 4 moves; (FINANCE|SPORTS)-1: \w+, \w+').Count | Should -BeGreaterThan 0
            $bars[-1].RecordType | Should -Be 'Completed'
        }
        finally { $shell.Dispose() }
    }
}
