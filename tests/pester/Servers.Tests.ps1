# The cmdlets on a simulated pool, as a user types them.
BeforeAll {
    . "$PSScriptRoot/Shared.ps1"
    Import-Module $Module
    # What a cmdlet complains about.
    function Get-Complaint([scriptblock] $Script) {
        $ErrorActionPreference = 'Continue'
        & $Script 2>&1 | Where-Object { $_ -is [System.Management.Automation.ErrorRecord] }
    }
}

Describe 'Finding the pool' {
    BeforeAll {
        $script:File = New-TestPool
        $script:Before = $env:VMATRIX_POOL
        $env:VMATRIX_POOL = $null
    }
    AfterEach { $env:VMATRIX_POOL = $Before }

    It 'takes a path, a folder, a file object, a pool object and what a pool object became elsewhere' {
        $live = Get-VMatrixPool $File
        $dead = [System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize($live))
        foreach ($pool in $File, (Split-Path $File), (Get-Item $File), $live, $dead) {
            (Get-VMatrixPool -Pool $pool).Path | Should -Be $File
            ($pool | Get-VMatrixHost).Count | Should -Be 4
        }
    }

    It 'takes the environment''s pool' {
        $env:VMATRIX_POOL = $File
        (Get-VMatrixPool).Path | Should -Be $File
        New-VMatrixServer SPORTS -WhatIf
    }

    It 'takes the current folder''s pool for reading and refuses it for changing' {
        Push-Location (Split-Path $File)
        try {
            (Get-VMatrixPool).Path | Should -Be $File
            foreach ($change in { New-VMatrixServer SPORTS }, { Move-VMatrixServer x -Stage Nest }, { Remove-VMatrixServer x -Force }, { Restore-VMatrixServer x }, { Invoke-VMatrixSwitch }, { New-VMatrixPlan }) {
                $change | Should -Throw -ErrorId 'PoolNotNamed,*' -ExpectedMessage '*-Pool*VMATRIX_POOL*'
            }
            '.vmatrix' | Should -Not -Exist
        }
        finally { Pop-Location }
    }

    It 'says what to do where there is none' {
        Push-Location $TestDrive
        try { { Get-VMatrixServer -ErrorAction Stop } | Should -Throw -ErrorId 'PoolNotNamed,*' }
        finally { Pop-Location }
    }

    It 'says that a file is not there' {
        { Get-VMatrixPool "$TestDrive/none.yaml" -ErrorAction Stop } | Should -Throw -ErrorId 'PoolNotFound,*'
        (Get-Complaint { Get-VMatrixPool "$TestDrive/none.yaml" }).CategoryInfo.Category | Should -Be 'ObjectNotFound'
    }

    It 'sees a changed file at once' {
        (Get-VMatrixService -Pool $File).Count | Should -Be 2
        (Get-Content -Raw $File) -replace '(?m)^  - \{ name: SPORTS.*\r?\n' | Set-Content $File
        (Get-VMatrixService -Pool $File).Name | Should -Be 'FINANCE'
    }
}

Describe 'Test-VMatrixPool' {
    It 'is true for a good file and false for a bad one, of which -Detailed tells every mistake' {
        $good = New-TestPool
        $bad = Join-Path $TestDrive 'bad.yaml'
        (Get-Content -Raw $good) -replace 'least: 1, most: 4', 'least: 9, most: 4' -replace 'memory: 4 GiB', 'memory: lots' | Set-Content $bad
        Test-VMatrixPool $good | Should -BeTrue
        Test-VMatrixPool $bad | Should -BeFalse
        Get-Item $good, $bad | Test-VMatrixPool | Should -Be $true, $false
        Test-VMatrixPool $good -Detailed | Should -BeNullOrEmpty
        $findings = @(Test-VMatrixPool $bad -Detailed)
        $findings.Count | Should -BeGreaterThan 3
        $findings[0] | Should -BeOfType VMatrix.PoolFinding
        $findings.Line | Should -Contain 4
    }
}

Describe 'A pool whose image is missing' {
    BeforeAll {
        $folder = Join-Path $TestDrive 'noimage'
        $null = New-Item -ItemType Directory $folder
        $script:File = Join-Path $folder 'pool.yaml'
        Set-Content $File 'pool: noimage', 'hypervisor: qemu', 'hosts:', '  - { name: host1, memory: 1 GiB }', 'services:', '  - { name: WEB, listen: 127.0.0.1:18999, image: { kernel: guest/vmlinuz, initrd: guest/initrd } }', 'balancer: { kind: haproxy }'
    }

    It 'is told by Test-VMatrixPool, with every file that is missing' {
        Test-VMatrixPool $File | Should -BeFalse
        $findings = Test-VMatrixPool $File -Detailed
        $findings.Key | Should -Be 'services[0].image.kernel', 'services[0].image.initrd'
        $findings[0].Line | Should -Be 6
        $findings[0].Message | Should -BeLike "*$(Join-Path $folder guest/vmlinuz)*does not exist*vmatrix-oracle image build-demo --folder*"
    }

    It 'opens, makes no server, names the remedy, and starts no balancer' -Skip:(-not (Get-Command qemu-system-x86_64, haproxy -ErrorAction Ignore)) {
        (Get-VMatrixService -Pool $File).Name | Should -Be 'WEB'
        $complaint = @(Get-Complaint { New-VMatrixServer WEB -Pool $File })
        $complaint[0].Exception.Message | Should -BeLike '*guest/vmlinuz*does not exist*build-demo*'
        Get-ChildItem $folder -Recurse -Force -File -Filter haproxy.pid | Should -BeNullOrEmpty
    }
}

Describe 'Servers' {
    BeforeAll {
        $script:File = New-TestPool
        $env:VMATRIX_POOL = $File
        $script:Made = New-VMatrixServer FINANCE -Count 3
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'are made in the nest, by name of the service and number' {
        $Made.Count | Should -Be 3
        $Made[0] | Should -BeOfType VMatrix.ServerInfo
        $Made.Name | Should -Be 'FINANCE-1', 'FINANCE-2', 'FINANCE-3'
        $Made.Stage | Select-Object -Unique | Should -Be 'Nest'
        (Get-VMatrixService FINANCE | New-VMatrixServer -Name EXTRA).Name | Should -Be 'EXTRA'
    }

    It 'of one name are not made twice' {
        $complaints = @(Get-Complaint { New-VMatrixServer SPORTS -Name extra })
        $complaints.FullyQualifiedErrorId | Should -Be 'NameTaken,VMatrix.Commands.NewVMatrixServerCommand'
        $complaints[0].Exception.Message | Should -BeLike "*$((Get-VMatrixServer EXTRA).Id)*"
        Get-VMatrixServer -Service SPORTS | Should -BeNullOrEmpty
    }

    It 'are listed by name, id, service, stage and host' {
        (Get-VMatrixServer FINANCE-2).Id | Should -Be $Made[1].Id
        @(Get-VMatrixServer finance-[12], EXTRA).Count | Should -Be 3
        (Get-VMatrixServer -Id $Made[2].Id).Name | Should -Be 'FINANCE-3'
        (Get-VMatrixServer -Service fin*).Count | Should -Be 4
        Get-VMatrixServer -Service SPORTS | Should -BeNullOrEmpty
        Get-VMatrixServer -Stage Matrix | Should -BeNullOrEmpty
        Get-VMatrixServer -HostName host* | Should -BeNullOrEmpty
        (Get-VMatrixServer | Select-Object -First 1).Service | Should -Be 'FINANCE' -Because 'a reader that has enough ends the listing'
    }

    It 'that do not exist are errors, and the others are shown' {
        $complaints = @(Get-Complaint { $script:shown = Get-VMatrixServer NONE, FINANCE-1, NONE* })
        $complaints.Count | Should -Be 1
        $complaints[0].FullyQualifiedErrorId | Should -Be 'ServerNotFound,VMatrix.Commands.GetVMatrixServerCommand'
        $complaints[0].CategoryInfo.Category | Should -Be 'ObjectNotFound'
        $complaints[0].TargetObject | Should -Be 'NONE'
        $shown.Name | Should -Be 'FINANCE-1'
        (Get-Complaint { Get-VMatrixServer -Id ([guid]::Empty) }).FullyQualifiedErrorId | Should -BeLike 'ServerNotFound,*'
        (Get-Complaint { Get-VMatrixServer -Service NOSERVICE }).FullyQualifiedErrorId | Should -BeLike 'ServiceNotFound,*'
        (Get-Complaint { Get-VMatrixServer -HostName nohost }).FullyQualifiedErrorId | Should -BeLike 'HostNotFound,*'
        (Get-Complaint { Get-VMatrixHost nohost }).FullyQualifiedErrorId | Should -BeLike 'HostNotFound,*'
        (Get-Complaint { Get-VMatrixService NOSERVICE }).FullyQualifiedErrorId | Should -BeLike 'ServiceNotFound,*'
        (Get-Complaint { New-VMatrixServer NOSERVICE }).FullyQualifiedErrorId | Should -BeLike 'ServiceNotFound,*'
    }

    It 'move to the Matrix, to a stated host, and back, and are returned as they are after' {
        $moved = Get-VMatrixServer FINANCE-1, FINANCE-2 | Move-VMatrixServer -Stage Matrix -PassThru
        $moved.Stage | Should -Be 'Matrix', 'Matrix'
        $moved.Power | Should -Be 'Running', 'Running'
        $moved.Health | Should -Be 'Healthy', 'Healthy'
        ($moved.Host | Select-Object -Unique).Count | Should -Be 2 -Because 'each choice of a host sees the one before'
        $second, $first = Get-VMatrixMove -Newest 2 | Sort-Object StartedAt -Descending
        $second.StartedAt | Should -BeLessThan $first.EndedAt -Because 'they went at the same time'
        $free = 'host1', 'host2', 'host3' | Where-Object { $_ -notin $moved.Host }
        $there = Move-VMatrixServer $Made[0].Id -Destination (Get-VMatrixHost $free) -PassThru
        $there.Host | Should -Be $free
        $there.Stage | Should -Be 'Matrix'
        Get-VMatrixServer -Stage Matrix | Move-VMatrixServer -Stage Nest | Should -BeNullOrEmpty
        (Get-VMatrixServer FINANCE-1, FINANCE-2).Stage | Should -Be 'Nest', 'Nest'
    }

    It 'move together only as far as there is room, and each that does not fit is told' {
        $null = New-VMatrixServer SPORTS -Count 7
        $complaints = @(Get-Complaint { Get-VMatrixServer -Service SPORTS | Move-VMatrixServer -Stage Matrix -WhatIf })
        $complaints.FullyQualifiedErrorId | Should -Be 'NoRoom,VMatrix.Commands.MoveVMatrixServerCommand' -Because 'each choice sees the one before'
        $complaints = @(Get-Complaint { $script:moved = Get-VMatrixServer -Service SPORTS | Move-VMatrixServer -Stage Matrix -PassThru })
        $complaints.FullyQualifiedErrorId | Should -Be 'NoRoom,VMatrix.Commands.MoveVMatrixServerCommand'
        $moved | Group-Object Host | ForEach-Object Count | Should -Be 2, 2, 2
        'SPORTS-1', 'SPORTS-1' | Move-VMatrixServer -Stage Nest -ErrorAction SilentlyContinue -ErrorVariable twice
        $twice.FullyQualifiedErrorId | Should -BeLike 'AlreadyThere,*'
        Get-VMatrixServer -Service SPORTS | Remove-VMatrixServer -Purge -Force -PassThru | Should -BeNullOrEmpty
    }

    It 'leave a history' {
        $moves = Get-VMatrixMove FINANCE-1
        $moves[0] | Should -BeOfType VMatrix.MoveRecord
        $moves.Status | Select-Object -Unique | Should -Be 'Done'
        $moves.Move.Kind | Should -Contain 'Wake'
        $moves[0].StartedAt | Should -BeGreaterThan $moves[-1].StartedAt
        Get-VMatrixMove -Since (Get-Date).AddHours(1) | Should -BeNullOrEmpty
        Get-VMatrixMove -Status Failed | Should -BeNullOrEmpty
        (Get-VMatrixMove $Made[2].Id.ToString()).Move.ServerName | Should -Be 'FINANCE-3'
    }

    It 'refuse what is not legal, each by itself, and the next goes on' {
        $complaints = @(Get-Complaint { 'NONE', 'FINANCE-1', 'FINANCE-2' | Move-VMatrixServer -Stage Nest })
        $complaints.FullyQualifiedErrorId | Should -Be 'ServerNotFound,VMatrix.Commands.MoveVMatrixServerCommand', 'AlreadyThere,VMatrix.Commands.MoveVMatrixServerCommand', 'AlreadyThere,VMatrix.Commands.MoveVMatrixServerCommand'
        $complaints.CategoryInfo.Category | Should -Be 'ObjectNotFound', 'InvalidOperation', 'InvalidOperation'
        $complaints.TargetObject | Should -Be 'NONE', 'FINANCE-1', 'FINANCE-2'
        (Get-Complaint { Move-VMatrixServer FINANCE-1 -Stage Matrix -Destination chamber1 }).FullyQualifiedErrorId | Should -BeLike 'HostRoleMismatch,*'
        { Move-VMatrixServer FINANCE-1 } | Should -Throw -ErrorId 'NothingToMove,*'
        { Move-VMatrixServer FINANCE-1 -Stage Disposed } | Should -Throw -ErrorId 'ParameterArgumentValidationError,*'
        { Move-VMatrixServer FINANCE-* -Stage Nest } | Should -Throw -ExpectedMessage '*wildcards*'
    }

    It 'are not changed by -WhatIf' {
        # When it was looked at changes with each look.
        $before = Get-VMatrixServer | Select-Object * -ExcludeProperty ObservedAt, Age | ConvertTo-Json
        New-VMatrixServer SPORTS -WhatIf
        Move-VMatrixServer FINANCE-1 -Stage Matrix -WhatIf
        Get-VMatrixServer | Remove-VMatrixServer -WhatIf -Force
        Remove-VMatrixServer FINANCE-2 -Purge -Force -WhatIf
        Get-VMatrixServer | Select-Object * -ExcludeProperty ObservedAt, Age | ConvertTo-Json | Should -Be $before
        Get-VMatrixServer -Stage Disposed | Should -BeNullOrEmpty
    }

    It 'are disposed of, restored, and purged' {
        (Remove-VMatrixServer FINANCE-3 -Force -PassThru).Stage | Should -Be 'Disposed'
        (Get-VMatrixServer).Name | Should -Not -Contain 'FINANCE-3'
        (Get-VMatrixServer -Stage Disposed).Id | Should -Be $Made[2].Id
        (Get-VMatrixServer -Id $Made[2].Id).Stage | Should -Be 'Disposed'
        (Restore-VMatrixServer FINANCE-3 -PassThru).Stage | Should -Be 'Nest'
        (Get-Complaint { Restore-VMatrixServer FINANCE-3 }).FullyQualifiedErrorId | Should -BeLike 'AlreadyThere,*'
        Remove-VMatrixServer FINANCE-3 -Confirm:$false
        Get-VMatrixServer -Stage Disposed | Remove-VMatrixServer -Purge -Force
        (Get-Complaint { Get-VMatrixServer -Id $Made[2].Id }).FullyQualifiedErrorId | Should -BeLike 'ServerNotFound,*'
        Remove-VMatrixServer EXTRA -Purge -Force
        Get-VMatrixServer -Stage Disposed | Should -BeNullOrEmpty
        (Get-VMatrixServer).Name | Sort-Object | Should -Be 'FINANCE-1', 'FINANCE-2'
    }

    It 'asks before it removes' {
        { Remove-VMatrixServer FINANCE-1 -ErrorAction Stop } | Should -Throw -ExpectedMessage '*NonInteractive*' -Because 'these tests run without a prompt'
        (Get-VMatrixServer FINANCE-1).Stage | Should -Be 'Nest'
    }
}

Describe 'Naming a server' {
    BeforeAll {
        $script:File = New-TestPool
        $env:VMATRIX_POOL = $File
        # Two of one name, as a race or a host that was away for a while leaves them: only the id tells them apart, and the first is never the answer.
        # By another process, for this one remembers what it has read.
        $null = & ([Environment]::ProcessPath) -NoProfile -NonInteractive -Command "Import-Module '$Module'; New-VMatrixServer FINANCE -Name TWIN; New-VMatrixServer FINANCE -Name TWIX"
        foreach ($world in Get-ChildItem (Join-Path (Split-Path $File) 'nest') -Recurse -File) {
            [IO.File]::WriteAllText($world.FullName, [IO.File]::ReadAllText($world.FullName).Replace('TWIX', 'TWIN'))
        }
        $script:Twins = Get-VMatrixServer TWIN
        $Twins.Count | Should -Be 2
        $script:Single = New-VMatrixServer SPORTS -Name SINGLE
        $script:Wanted = $Twins | Sort-Object Id | Select-Object -Last 1
        $script:Csv = Join-Path $TestDrive 'servers.csv'
        function ConvertTo-Dead($Value) { [System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize($Value)) }
    }
    AfterAll { $env:VMATRIX_POOL = $null }
    AfterEach { Get-VMatrixServer -Stage Disposed | Restore-VMatrixServer }

    It 'takes <_>' -ForEach 'a live object by pipe', 'a live object by argument', 'a deserialized object by pipe', 'a deserialized object by argument', 'a deserialized object in an array', 'a CSV row with id and name', 'a CSV row with the id only', 'text of the id', 'a Guid', 'Select-Object', 'its move', 'its deserialized move' {
        $server = Get-VMatrixServer -Id $Wanted.Id
        switch ($_) {
            'a live object by pipe' { $server | Remove-VMatrixServer -Force }
            'a live object by argument' { Remove-VMatrixServer $server -Force }
            'a deserialized object by pipe' { ConvertTo-Dead $server | Remove-VMatrixServer -Force }
            'a deserialized object by argument' { Remove-VMatrixServer (ConvertTo-Dead $server) -Force }
            'a deserialized object in an array' { Remove-VMatrixServer @((ConvertTo-Dead $server), (ConvertTo-Dead $Single)) -Force; Restore-VMatrixServer SINGLE }
            'a CSV row with id and name' { $server | Select-Object Id, Name | Export-Csv $Csv; Import-Csv $Csv | Remove-VMatrixServer -Force }
            'a CSV row with the id only' { $server | Select-Object Id | Export-Csv $Csv; Import-Csv $Csv | Remove-VMatrixServer -Force }
            'text of the id' { "$($server.Id)" | Remove-VMatrixServer -Force }
            'a Guid' { Remove-VMatrixServer -Id $server.Id -Force }
            'Select-Object' { $server | Select-Object Name, Id | Remove-VMatrixServer -Force }
            'its move' { Get-VMatrixMove $server.Id.ToString() -Newest 1 | Select-Object -First 1 | Remove-VMatrixServer -Force }
            'its deserialized move' { ConvertTo-Dead (Get-VMatrixMove $server.Id.ToString() | Select-Object -First 1) | Remove-VMatrixServer -Force }
        }
        (Get-VMatrixServer -Stage Disposed).Id | Should -Be $Wanted.Id
    }

    It 'takes a name that is one server''s: text, and a CSV row with the name only' {
        Remove-VMatrixServer single -Force
        (Get-VMatrixServer -Stage Disposed).Id | Should -Be $Single.Id
        Restore-VMatrixServer SINGLE
        $Single | Select-Object Name | Export-Csv $Csv
        Import-Csv $Csv | Remove-VMatrixServer -Force
        (Get-VMatrixServer -Stage Disposed).Id | Should -Be $Single.Id
    }

    It 'refuses a name of two servers, and lists their ids' {
        $complaint = Get-Complaint { Remove-VMatrixServer TWIN -Force }
        $complaint.FullyQualifiedErrorId | Should -Be 'ServerAmbiguous,VMatrix.Commands.RemoveVMatrixServerCommand'
        $Twins.Id | ForEach-Object { $complaint.Exception.Message | Should -BeLike "*$_*" }
        Get-VMatrixServer -Stage Disposed | Should -BeNullOrEmpty
    }

    It 'takes a name as that of the one server that is meant, where the other is disposed of' {
        Remove-VMatrixServer $Twins[0] -Force
        Remove-VMatrixServer TWIN -Force
        (Get-VMatrixServer -Stage Disposed).Count | Should -Be 2
    }

    It 'refuses an object whose id is another''s' {
        (Get-Complaint { [pscustomobject]@{ Id = [guid]::NewGuid(); Name = 'SINGLE' } | Remove-VMatrixServer -Force }).FullyQualifiedErrorId | Should -BeLike 'ServerNotFound,*'
        (Get-Complaint { [pscustomobject]@{ Id = 4711; Name = 'SINGLE' } | Remove-VMatrixServer -Force }).Count | Should -BeGreaterThan 0
        (Get-Complaint { [pscustomobject]@{ Other = 1 } | Remove-VMatrixServer -Force }).Count | Should -BeGreaterThan 0
        Get-VMatrixServer -Stage Disposed | Should -BeNullOrEmpty
    }
}

Describe 'Objects elsewhere' {
    BeforeAll {
        $env:VMATRIX_POOL = New-TestPool
        $null = New-VMatrixServer FINANCE
        function ConvertTo-Dead($Value) { [System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize($Value)) }
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'keep what they hold through remoting' {
        $plan = New-VMatrixPlan
        $dead = ConvertTo-Dead $plan
        $dead.PSObject.TypeNames[0] | Should -Be 'Deserialized.VMatrix.Plan'
        $dead.Moves.Count | Should -Be $plan.Moves.Count
        $dead.Moves.Count | Should -BeGreaterThan 0
        $dead.Moves[0].ServerId | Should -Be $plan.Moves[0].ServerId
        $dead.Moves[0].Reason | Should -Be $plan.Moves[0].Reason
        $dead.Decisions[0].Service | Should -Be $plan.Decisions[0].Service
        (ConvertTo-Dead (Get-VMatrixMove -Newest 1)[0]).Move.ServerName | Should -Be 'FINANCE-1'
        (ConvertTo-Dead (Get-VMatrixPool)).Spec.Hosts[0].Name | Should -Be 'host1'
        (ConvertTo-Dead (Get-VMatrixService FINANCE)).Spec.Health.Path | Should -Be '/'
    }

    It 'name their stages in words, and are found by their server, when they are moves from elsewhere or from a CSV file' {
        $live = (Get-VMatrixMove -Newest 1)[0]
        $file = Join-Path $TestDrive 'moves.csv'
        $live | Export-Csv $file
        foreach ($move in (ConvertTo-Dead $live), (Import-Csv $file)) {
            $move.ServerName, $move.Service, "$($move.From)", "$($move.To)", "$($move.ServerId)" | Should -Be 'FINANCE-1', 'FINANCE', 'Nest', 'Nest', "$($live.Move.ServerId)"
            ($move | Move-VMatrixServer -Stage Nest -ErrorAction SilentlyContinue -ErrorVariable refused) | Should -BeNullOrEmpty
            $refused.FullyQualifiedErrorId | Should -BeLike 'AlreadyThere*'
        }
        (ConvertTo-Dead $live | Out-String -Width 160) | Should -Match 'FINANCE-1 +Create +Nest +Nest '
        (ConvertTo-Dead (New-VMatrixPlan) | Format-List Moves | Out-String -Width 200) | Should -Not -Match 'VMatrix'
        (ConvertTo-Dead (New-VMatrixPlan)).Moves[-1].To | Should -BeLike 'Matrix on host*'
    }

    It 'are whole in Clixml and JSON' {
        $server = Get-VMatrixServer FINANCE-1
        $file = Join-Path $TestDrive 'server.xml'
        $server | Export-Clixml $file
        $dead = Import-Clixml $file
        $json = $server | ConvertTo-Json | ConvertFrom-Json
        # An age is counted when it is read.
        foreach ($property in $server.PSObject.Properties.Name -ne 'Age') {
            $wanted = if ($server.$property -is [enum]) { [int] $server.$property } else { $server.$property }
            "$($dead.$property)" | Should -Be "$wanted" -Because $property
        }
        $json.Id | Should -Be "$($server.Id)"
        $json.Name | Should -Be 'FINANCE-1'
    }

    It 'read well: <_>' -ForEach 'Get-VMatrixPool', 'Get-VMatrixHost', 'Get-VMatrixService', 'Get-VMatrixServer', 'Get-VMatrixMove', 'New-VMatrixPlan' {
        $text = & $_ | Out-String -Width 160
        $text | Should -Not -Match 'VMatrix\.|\{|System\.'
        $lines = $text.Trim() -split "`n"
        if ($_ -like 'Get-*') { $lines[1] | Should -Match '^-+( +-+)+\s*$' -Because 'it is a table' }
        $list = & $_ | Select-Object -First 1 | Format-List | Out-String -Width 160
        $list | Should -Match '(?m)^(Name|Id)\s+: \S'
        $list | Should -Not -Match 'VMatrix\.|MoveRecord|PoolSpec|ServiceSpec|System\.'
    }

    It 'complete by name, from what is known' {
        function Get-Completion($Line) { (TabExpansion2 $Line $Line.Length).CompletionMatches.CompletionText }
        $null = Get-VMatrixServer
        Get-Completion 'Get-VMatrixServer FIN' | Should -Be 'FINANCE-1'
        Get-Completion 'Get-VMatrixServer -Service SP' | Should -Be 'SPORTS'
        Get-Completion 'Move-VMatrixServer FINANCE-1 -Destination ch' | Should -Be 'chamber1'
        Get-Completion 'Move-VMatrixServer FINANCE-1 -Stage ' | Should -Be 'Chamber', 'Matrix', 'Nest'
        Get-Completion 'Get-VMatrixServer -Pool /nowhere/pool.yaml -Service SP' | Should -Not -Contain 'SPORTS'
    }
}

Describe 'A host that does not answer' {
    BeforeAll {
        $script:File = New-TestPool
        $env:VMATRIX_POOL = $File
        $null = New-VMatrixServer FINANCE -Count 2
        $null = Move-VMatrixServer FINANCE-1 -Destination host1 -PassThru
        (Get-Content -Raw $File) -replace 'wakeTime: 20ms', "wakeTime: 20ms`n  cutOff: [host1]" | Set-Content $File
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'is one error of each listing, which goes on' {
        foreach ($list in { Get-VMatrixServer }, { Get-VMatrixServer -Foreign }, { Get-VMatrixService }, { Get-VMatrixHost }, { Get-VMatrixHost host1 }, { Get-VMatrixPool }, { Compare-VMatrixServer FINANCE-2 }, { 'FINANCE-2', 'FINANCE-2' | Compare-VMatrixServer }, { Get-VMatrixHost -ErrorAction SilentlyContinue | Get-VMatrixServer }) {
            $complaints = @(Get-Complaint $list)
            $complaints.FullyQualifiedErrorId | Should -BeLike 'HostUnreachable,*'
            $complaints.Count | Should -Be 1
            $complaints[0].CategoryInfo.Category | Should -Be 'ConnectionError'
            $complaints[0].TargetObject | Should -Be 'host1'
        }
        (Get-VMatrixServer -ErrorAction SilentlyContinue).Name | Should -Be 'FINANCE-2'
        (Get-VMatrixHost -ErrorAction SilentlyContinue).Reachable | Should -Be $false, $true, $true, $true
        Get-Complaint { Get-VMatrixHost host2 } | Should -BeNullOrEmpty -Because 'that host answers'
    }

    It 'may have the server that is not found, and the error says so: <_>' -ForEach 'Get-VMatrixServer FINANCE-1', 'Move-VMatrixServer FINANCE-1 -Stage Nest', 'Remove-VMatrixServer FINANCE-1 -Force', 'Compare-VMatrixServer FINANCE-1' {
        $complaint = Get-Complaint ([scriptblock]::Create($_)) | Where-Object FullyQualifiedErrorId -Like 'ServerNotFound,*'
        $complaint.Exception.Message | Should -BeLike '*may be on host1, which does not answer*'
    }
}

Describe 'One look at the pool serves all that come down the pipeline' {
    BeforeAll {
        $script:File = New-TestPool
        $env:VMATRIX_POOL = $File
        $null = New-VMatrixServer FINANCE -Count 4
        # How often the pool's session, which the module keeps open, asked every host.
        function Get-Looks {
            $kept = [VMatrix.Commands.GetVMatrixPoolCommand].Assembly.GetType('VMatrix.Commands.Sessions').GetField('s_open', 'NonPublic, Static').GetValue($null)[$File]
            $session = $kept.GetType().GetProperty('Session').GetValue($kept)
            $session.GetType().GetProperty('Looks', [System.Reflection.BindingFlags] 'NonPublic, Instance').GetValue($session)
        }
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It '<Name>: <Want> for three servers' -ForEach @(
        @{ Name = 'Compare-VMatrixServer'; Want = 1; Run = { $_ | Compare-VMatrixServer } }
        @{ Name = 'Compare-VMatrixServer with one that is not there'; Want = 2; Run = { $_ + 'nobody' | Compare-VMatrixServer -ErrorAction SilentlyContinue } }
        @{ Name = 'Move-VMatrixServer'; Want = 1; Run = { $_ | Move-VMatrixServer -Stage Matrix } }
        @{ Name = 'Move-VMatrixServer -PassThru'; Want = 2; Run = { $_ | Move-VMatrixServer -Stage Nest -PassThru } }
        @{ Name = 'Remove-VMatrixServer'; Want = 1; Run = { $_ | Remove-VMatrixServer -Force } }
        @{ Name = 'Restore-VMatrixServer'; Want = 1; Run = { $_ | Restore-VMatrixServer } }
        @{ Name = 'Remove-VMatrixServer -WhatIf'; Want = 1; Run = { $_ | Remove-VMatrixServer -WhatIf } }
        @{ Name = 'Unregister-VMatrixServer -WhatIf'; Want = 1; Run = { $_ | Unregister-VMatrixServer -WhatIf } }
        @{ Name = 'Publish-VMatrixImage -WhatIf'; Want = 1; Run = { $null = $_ | Move-VMatrixServer -Stage Chamber -Destination chamber1; $script:Before = Get-Looks; $_ | Publish-VMatrixImage -WhatIf } }
        @{ Name = 'Get-VMatrixServer'; Want = 1; Run = { Get-VMatrixServer -Id $_.Id | Get-VMatrixServer }; Least = 1 }
        @{ Name = 'Get-VMatrixHost'; Want = 1; Run = { $_ | Get-VMatrixHost } }
        @{ Name = 'Get-VMatrixService'; Want = 1; Run = { $_ | Get-VMatrixService } }
        @{ Name = 'Get-VMatrixMove'; Want = 0; Run = { $_ | Get-VMatrixMove } }
        @{ Name = 'Unregister-VMatrixServer'; Want = 1; Run = { $_ | Unregister-VMatrixServer -Force } }
        @{ Name = 'Register-VMatrixServer -WhatIf'; Want = 2; Run = { Get-VMatrixServer -Foreign | Register-VMatrixServer -Service FINANCE -WhatIf } }
        @{ Name = 'Remove-VMatrixServer -Purge'; Want = 2; Run = { 'FINANCE-4' | Remove-VMatrixServer -Purge -Force } }
    ) {
        $three = if ($Name -notlike 'Reg*' -and $Name -notlike '*Purge') { @(Get-VMatrixServer -Stage Nest, Chamber, Matrix, Disposed -SkipHealthCheck | Where-Object Name -NE 'FINANCE-4') }
        if ($three) { $three.Count | Should -Be 3 }
        $null = Get-VMatrixHost
        $script:Before = Get-Looks
        $null = $three | ForEach-Object { } -End { $_ = $three; . $Run }
        (Get-Looks) - $Before - $(if ($Least) { $Least } else { 0 }) | Should -Be $Want
    }
}
